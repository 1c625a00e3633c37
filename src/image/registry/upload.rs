//! Gives blobs and manifests to a registry (OCI distribution specification 1.1, "Push").
//!
//! A blob goes in one piece, by `POST` and `PUT`, which every registry takes; what breaks off is begun anew.

use bytes::Bytes;

use super::payload::Payload;
pub(crate) use super::payload::Upload;
use super::{Ask, Client, Error, Place, Subject};
use crate::image::config::Descriptor;
use crate::image::digest::Digest;
use crate::image::reference::Reference;

/// Where something is pushed to, and in which words that is told.
#[derive(Debug, Clone)]
pub(crate) struct Target<'a> {
    pub(crate) reference: &'a Reference,
    pub(crate) place: Place,
    pub(crate) image: String,
    /// Repositories of the same registry that blobs may be taken from.
    pub(crate) sources: Vec<String>,
}

impl Client {
    /// Returns where a reference is pushed to: its registry itself, and no mirror.
    pub(crate) fn target<'a>(&self, reference: &'a Reference, sources: Vec<String>) -> Target<'a> {
        let place = self.places(reference).pop().unwrap_or_else(|| unreachable!("a reference has a place"));
        Target { reference, place, image: reference.familiar(), sources }
    }

    /// Asks whether the repository has a blob.
    pub(crate) async fn has_blob(&self, target: &Target<'_>, digest: &Digest, what: &str) -> Result<bool, Error> {
        let path = format!("{}/blobs/{digest}", target.reference.path());
        let ask = Ask { method: "HEAD", path: &path, url: None, range: None, payload: Payload::Nothing };
        let found = self.retrying(async || {
            let (mut answer, _) = self.request(&ask, &target.place, target.reference, &target.subject(what)).await?;
            answer.next().await.map(drop)
        });
        match found.await {
            Ok(()) => Ok(true),
            Err(Error::Status { status: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Has the registry take a blob from another of its repositories; returns whether it did.
    pub(crate) async fn mount(&self, target: &Target<'_>, digest: &Digest, from: &str) -> Result<bool, Error> {
        let what = "an upload";
        let path = format!("{}/blobs/uploads/?mount={digest}&from={from}", target.reference.path());
        let ask = Ask { method: "POST", path: &path, url: None, range: None, payload: Payload::Nothing };
        let asked = self.request(&ask, &target.place, target.reference, &target.subject(what)).await;
        match asked {
            // 202: it has begun an upload instead, which it forgets again.
            Ok((mut answer, _)) => {
                let taken = answer.status == 201;
                answer.read_some(super::ERROR_MAX).await;
                Ok(taken)
            }
            // Not to be allowed to look there is no reason not to push.
            Err(Error::Unauthorised { .. } | Error::Status { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Uploads a file whose digest is known.
    pub(crate) async fn upload(
        &self,
        target: &Target<'_>,
        descriptor: &Descriptor,
        upload: &Upload,
        what: &str,
    ) -> Result<(), Error> {
        self.put(target, &descriptor.digest, &Payload::File(upload.clone()), what).await
    }

    /// Uploads a small blob.
    pub(crate) async fn upload_document(
        &self,
        target: &Target<'_>,
        digest: &Digest,
        bytes: &[u8],
        what: &str,
    ) -> Result<(), Error> {
        let (bytes, kind) = (Bytes::copy_from_slice(bytes), "application/octet-stream".to_owned());
        self.put(target, digest, &Payload::Text { bytes, kind }, what).await
    }

    async fn put(&self, target: &Target<'_>, digest: &Digest, payload: &Payload, what: &str) -> Result<(), Error> {
        let Target { reference, place, .. } = target;
        let subject = target.subject(what);
        let path = format!("{}/blobs/uploads/", reference.path());
        self.retrying(async || {
            let begin = Ask { method: "POST", path: &path, url: None, range: None, payload: Payload::Nothing };
            let (mut answer, at) = self.request(&begin, place, reference, &subject).await?;
            let to = answer.header("location").and_then(|location| at.join(location));
            answer.read_some(super::ERROR_MAX).await;
            let refuse = |how| Error::Redirect { host: place.name.clone(), what: what.to_owned(), how };
            let mut to = to.ok_or_else(|| refuse("to no place that can be read"))?;
            if at.origin.https && !to.origin.https {
                return Err(refuse("from https to http, where anybody could change it"));
            }
            let mark = if to.path.contains('?') { '&' } else { '?' };
            to.path.push_str(&format!("{mark}digest=sha256%3A{}", digest.hex()));
            let put = Ask { method: "PUT", path: "", url: Some(to), range: None, payload: payload.clone() };
            let (mut answer, _) = self.request(&put, place, reference, &subject).await?;
            answer.read_some(super::ERROR_MAX).await;
            Ok(())
        })
        .await
    }

    /// Uploads a manifest under the reference's tag.
    pub(crate) async fn put_manifest(&self, target: &Target<'_>, bytes: &[u8], media_type: &str) -> Result<(), Error> {
        let Target { reference, place, image, .. } = target;
        let (what, digest) = (format!("the manifest of `{image}`"), Digest::of(bytes));
        let path = format!("{}/manifests/{}", reference.path(), reference.tag().unwrap_or("latest"));
        let payload = Payload::Text { bytes: Bytes::copy_from_slice(bytes), kind: media_type.to_owned() };
        let ask = Ask { method: "PUT", path: &path, url: None, range: None, payload };
        self.retrying(async || {
            let (mut answer, _) = self.request(&ask, place, reference, &target.subject(&what)).await?;
            let found = answer.header("docker-content-digest").and_then(|d| Digest::parse(d).ok());
            answer.read_some(super::ERROR_MAX).await;
            match found.filter(|found| *found != digest) {
                None => Ok(()),
                Some(found) => {
                    let (registry, expected) = (place.name.clone(), digest.to_string());
                    Err(Error::Digest { registry, what: what.clone(), expected, found: found.to_string() })
                }
            }
        })
        .await
    }
}

impl Target<'_> {
    fn subject<'a>(&'a self, what: &'a str) -> Subject<'a> {
        Subject { image: &self.image, what, manifest: false, push: Some(&self.sources) }
    }
}
