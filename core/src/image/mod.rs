//! Images: their references, those that a Deployment asks for, and which set they are.

mod reference;
pub(crate) mod requests;
mod set;

pub use reference::{ImageRef, InvalidImage};
pub use requests::{Image, ImageRequest, UnsupportedImage, UnsupportedReason};
pub use set::ImageSetId;
