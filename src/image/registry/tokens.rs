//! From a challenge to the header that answers it (Docker's token specification, `auth/token` and `auth/oauth`).

use serde::Deserialize;

use super::challenge::Challenge;
use super::credentials::{Credentials, encode};
use super::http::{Answer, Question};
use super::payload::Payload;
use super::settings::is_loopback;
use super::url::Url;
use super::{Client, ERROR_MAX, Error, Place, REDIRECTS, Subject, TOKEN_MAX, said};
use crate::image::reference::Reference;

/// Our name to token servers.
const CLIENT_ID: &str = "hoist";

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

impl Client {
    /// Returns the value of `Authorization` that a place asks for.
    pub(super) async fn authorize(
        &self,
        place: &Place,
        reference: &Reference,
        subject: &Subject<'_>,
        asked: &[Challenge],
    ) -> Result<String, Error> {
        let found = self.found(place)?.credentials;
        let bearer = asked.iter().find(|c| c.scheme == "bearer" && c.get("realm").is_some());
        if let Some(bearer) = bearer {
            if let Some(Credentials::Registry(token)) = &found {
                return Ok(format!("Bearer {token}"));
            }
            let token = self.token(place, reference, subject, bearer, found.as_ref()).await?;
            return Ok(format!("Bearer {token}"));
        }
        let refused = |logged_in| Error::Unauthorised {
            registry: place.name.clone(),
            image: subject.image.to_owned(),
            message: String::new(),
            logged_in,
        };
        match (asked.iter().any(|c| c.scheme == "basic"), &found) {
            (true, Some(Credentials::Password { user, password })) => Ok(basic(user, password)),
            (true, other) => Err(refused(other.is_some())),
            (false, _) => {
                let schemes: Vec<&str> = asked.iter().map(|c| c.scheme.as_str()).collect();
                Err(Error::Challenge { registry: place.name.clone(), schemes: schemes.join(", ") })
            }
        }
    }

    async fn token(
        &self,
        place: &Place,
        reference: &Reference,
        subject: &Subject<'_>,
        bearer: &Challenge,
        credentials: Option<&Credentials>,
    ) -> Result<String, Error> {
        let realm = bearer.get("realm").unwrap_or_default();
        let url = Url::parse(realm).ok_or_else(|| Error::Document {
            registry: place.name.clone(),
            what: "the challenge".into(),
            reason: "its realm is no URL".into(),
        })?;
        let open = self.origin(place).https && !url.origin.https && !is_loopback(&url.origin.host);
        if credentials.is_some() && open {
            return Err(Error::InsecureRealm { registry: place.name.clone(), realm: url.to_string() });
        }
        let path = reference.path();
        let scope = match (subject.push, bearer.get("scope")) {
            // One token for all that a push asks for, whatever was asked first.
            (Some(others), _) => {
                let others = others.iter().filter(|other| *other != path).map(|o| format!(" repository:{o}:pull"));
                format!("repository:{path}:pull,push{}", others.collect::<String>())
            }
            (None, Some(scope)) => scope.to_owned(),
            (None, None) => format!("repository:{path}:pull"),
        };
        let mut fields = Vec::new();
        if let Some(service) = bearer.get("service") {
            fields.push(("service", service));
        }
        let get = |fields: &[(&str, &str)], user: Option<(&str, &str)>| {
            let mut fields = fields.to_vec();
            fields.extend(scope.split(' ').filter(|s| !s.is_empty()).map(|s| ("scope", s)));
            if let Some((user, _)) = user {
                fields.push(("account", user));
            }
            let mark = if url.path.contains('?') { '&' } else { '?' };
            let path = format!("{}{mark}{}", url.path, encoded(&fields));
            (Url { origin: url.origin.clone(), path }, user.map(|(user, password)| basic(user, password)))
        };
        let post = |grant: &[(&'static str, &str)]| {
            let common = [("client_id", CLIENT_ID), ("scope", scope.as_str())];
            let all: Vec<(&str, &str)> = grant.iter().copied().chain(fields.iter().copied()).chain(common).collect();
            encoded(&all)
        };
        let answer = match credentials {
            None | Some(Credentials::Registry(_)) => {
                let (url, _) = get(&fields, None);
                self.token_answer(&url, None, None).await?
            }
            Some(Credentials::Password { user, password }) => {
                let (asked, header) = get(&fields, Some((user, password)));
                let answer = self.token_answer(&asked, header, None).await?;
                // Some servers know the OAuth form alone.
                if matches!(answer.status, 404 | 405) {
                    let form = post(&[
                        ("grant_type", "password"),
                        ("username", user.as_str()),
                        ("password", password.as_str()),
                    ]);
                    self.token_answer(&url, None, Some(form)).await?
                } else {
                    answer
                }
            }
            Some(Credentials::Identity(token)) => {
                let form = post(&[("grant_type", "refresh_token"), ("refresh_token", token.as_str())]);
                let answer = self.token_answer(&url, None, Some(form)).await?;
                // Others know no OAuth, and take the token for a password.
                if matches!(answer.status, 404 | 405) {
                    let (asked, header) = get(&fields, Some(("<token>", token)));
                    self.token_answer(&asked, header, None).await?
                } else {
                    answer
                }
            }
        };
        self.read_token(place, subject, &url, answer, credentials.is_some()).await
    }

    /// Asks a token server; follows its redirects, with credentials on its own host alone.
    async fn token_answer(&self, url: &Url, header: Option<String>, form: Option<String>) -> Result<Answer<'_>, Error> {
        let mut at = url.clone();
        for _ in 0..REDIRECTS {
            let home = at.origin == url.origin;
            let headers = header.iter().filter(|_| home).map(|h| ("authorization", h.clone())).collect();
            let method = if form.is_some() { "POST" } else { "GET" };
            let what = "a token";
            let payload = Payload::form(form.clone());
            let mut answer = self.http.ask(&Question { method, url: &at, headers, payload, what }).await?;
            let moved = matches!(answer.status, 301 | 302 | 303 | 307 | 308) && form.is_none();
            let target = answer.header("location").filter(|_| moved).and_then(|location| at.join(location));
            match target {
                Some(target) if target.origin.https || !at.origin.https => {
                    answer.read_some(ERROR_MAX).await;
                    at = target;
                }
                _ => return Ok(answer),
            }
        }
        let how = "again and again";
        Err(Error::Redirect { host: url.origin.authority(), what: "a token".into(), how })
    }

    async fn read_token(
        &self,
        place: &Place,
        subject: &Subject<'_>,
        url: &Url,
        mut answer: Answer<'_>,
        logged_in: bool,
    ) -> Result<String, Error> {
        let registry = place.name.clone();
        let host = url.origin.authority();
        if answer.status != 200 {
            let retry_after = answer.header("retry-after").and_then(|v| v.trim().parse().ok());
            let retry_after = retry_after.map(std::time::Duration::from_secs);
            let status = answer.status;
            let message = said(&answer.read_some(ERROR_MAX).await);
            return Err(match status {
                // A wrong password is a 400 in OAuth (RFC 6749, section 5.2).
                400 | 401 | 403 => {
                    Error::Unauthorised { registry, image: subject.image.to_owned(), message, logged_in }
                }
                429 => Error::RateLimited { registry, message, limit: None, wait: retry_after, logged_in },
                _ => Error::Status { host, what: "a token".into(), status, message, retry_after },
            });
        }
        let bytes = answer.read(TOKEN_MAX).await?;
        let token: Option<Token> = serde_json::from_slice(&bytes).ok();
        let text = token.map(|t| if t.token.is_empty() { t.access_token } else { t.token });
        // Whatever goes into a header must be printable; the token itself is not shown.
        text.filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_graphic())).ok_or_else(|| Error::Document {
            registry: host,
            what: "the answer to the request for a token".into(),
            reason: "there is no token in it".into(),
        })
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", encode(format!("{user}:{password}").as_bytes()))
}

/// Writes fields as a query or a form.
fn encoded(fields: &[(&str, &str)]) -> String {
    let quote = |text: &str| {
        text.bytes().fold(String::new(), |mut out, b| {
            if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                out.push(char::from(b));
            } else {
                out.push_str(&format!("%{b:02X}"));
            }
            out
        })
    };
    fields.iter().map(|(key, value)| format!("{key}={}", quote(value))).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted() {
        let fields = [("service", "registry.docker.io"), ("scope", "repository:a/b:pull"), ("x", "ä &=+%")];
        assert_eq!(
            encoded(&fields),
            "service=registry.docker.io&scope=repository%3Aa%2Fb%3Apull&x=%C3%A4%20%26%3D%2B%25"
        );
        assert_eq!(basic("me", "x"), "Basic bWU6eA==");
    }
}
