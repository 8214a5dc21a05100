//! The uid of a review of which only the beginning is there.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::review::{API_VERSION, KIND, MAX_UID};
use super::small::Text;

/// The uid in the first part of a review, the rest of which there was no room or time for. The API server writes
/// version and kind first, and the uid at the beginning of the request.
pub(super) fn uid_of_prefix(prefix: &[u8]) -> Option<String> {
    let mut probe = Probe::default();
    let mut json = serde_json::Deserializer::from_slice(prefix);
    // Fails where the prefix ends, or where the uid was found.
    let _ = Top(&mut probe).deserialize(&mut json);
    let Probe {
        versioned,
        kind,
        uid,
    } = probe;
    uid.filter(|uid| versioned && kind && (1..=MAX_UID).contains(&uid.len()))
}

#[derive(Default)]
struct Probe {
    versioned: bool,
    kind: bool,
    uid: Option<String>,
}

struct Top<'a>(&'a mut Probe);
struct Within<'a>(&'a mut Probe);

impl<'de> DeserializeSeed<'de> for Top<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(KIND)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(key)) = map.next_key()? {
            match key.as_ref() {
                "apiVersion" => self.0.versioned = map.next_value::<Text<'de>>()?.0 == API_VERSION,
                "kind" => self.0.kind = map.next_value::<Text<'de>>()?.0 == KIND,
                "request" => map.next_value_seed(Within(self.0))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Within<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Within<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(key)) = map.next_key()? {
            if key == "uid" {
                self.0.uid = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}
