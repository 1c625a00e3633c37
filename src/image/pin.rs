//! A name → the same name with the digest that its registry has for it now.

use super::Error;
use super::reference::Reference;
use super::registry::Client;

/// Returns `image` as one that stays: its whole name with a digest. One that has a digest is only written out.
///
/// # Errors
/// When the name breaks the grammar, or its registry does not have it or cannot be asked.
pub async fn pin(client: &Client, image: &str) -> Result<String, Error> {
    let reference = Reference::parse(image)?;
    if let Some(digest) = reference.digest() {
        return Ok(reference.pinned(digest));
    }
    let digest = match client.head(&reference).await? {
        Some(digest) => digest,
        None => client.manifest(&reference, reference.tag().unwrap_or("latest"), 0, None).await?.digest,
    };
    Ok(reference.pinned(&digest.to_string()))
}
