//! Finds the uid of a review of which only the beginning was read.

use super::json::{Invalid, Json};
use super::names::{API_VERSION, KIND, MAX_NAME, MAX_UID, name};

/// Returns the uid in the beginning of a review that could not be read whole. The API server writes version and kind first,
/// and the uid at the beginning of the request.
pub(super) fn uid_of_prefix(prefix: &[u8]) -> Option<String> {
    let mut finder = UidFinder::default();
    // Fails where the prefix ends.
    let _ = finder.read(&mut Json::new(prefix));
    let UidFinder {
        versioned,
        kind,
        uid,
    } = finder;
    uid.filter(|uid| versioned && kind && (1..=MAX_UID).contains(&uid.len()))
}

#[derive(Default)]
struct UidFinder {
    versioned: bool,
    kind: bool,
    uid: Option<String>,
}

impl UidFinder {
    fn read(&mut self, json: &mut Json<'_>) -> Result<(), Invalid> {
        json.object(|key, json| {
            match &*key.up_to(MAX_NAME) {
                "apiVersion" => self.versioned = name(json)? == API_VERSION,
                "kind" => self.kind = name(json)? == KIND,
                "request" => self.read_request(json)?,
                _ => drop(json.skip()?),
            }
            Ok(())
        })
    }

    fn read_request(&mut self, json: &mut Json<'_>) -> Result<(), Invalid> {
        json.object(|key, json| {
            if key.up_to(MAX_NAME) == "uid" {
                self.uid = Some(name(json)?.into_owned());
            } else {
                json.skip()?;
            }
            Ok(())
        })
    }
}
