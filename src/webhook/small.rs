//! Parts of an object that stay small whatever was sent.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::domain::contract::PREFIX;

/// Most containers or volumes that are read: no kubelet could run a pod with more.
const MAX_LISTED: usize = 1000;
/// Most labels or annotations of headstart's own: there are fewer than ten.
const MAX_OWN: usize = 32;

/// Labels or annotations, of which only headstart's own are kept.
#[derive(Default)]
pub(super) struct Own(pub(super) BTreeMap<String, String>);

/// A list, of which no more is kept than a pod could have.
pub(super) struct Bounded<T> {
    pub(super) items: Vec<T>,
    pub(super) cut: bool,
}

impl<'de> Deserialize<'de> for Own {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Own;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Own, A::Error> {
                let mut own = Own::default();
                while let Some(key) = map.next_key::<Text<'de>>()? {
                    if key.0.starts_with(PREFIX) && own.0.len() < MAX_OWN {
                        own.0.insert(key.0.into_owned(), map.next_value()?);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(own)
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// A string, borrowed where it has no escapes.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Bounded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = Bounded<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Bounded<T>, A::Error> {
                let mut items = Vec::new();
                while items.len() < MAX_LISTED {
                    match list.next_element()? {
                        Some(item) => items.push(item),
                        None => return Ok(Bounded { items, cut: false }),
                    }
                }
                let mut cut = false;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    cut = true;
                }
                Ok(Bounded { items, cut })
            }
        }
        deserializer.deserialize_seq(Items(PhantomData))
    }
}
