//! Images: their references, those that a Deployment asks for, and the identity of their set.

mod declared;
mod reference;
pub(crate) mod requests;
mod set;

pub use declared::{Image, UnsupportedImage, UnsupportedReason};
pub use reference::{ImageRef, InvalidImage};
pub use requests::ImageRequest;
pub use set::ImageSetId;
