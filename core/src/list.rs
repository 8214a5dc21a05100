//! Lists in the values of options and annotations.

/// Returns the items of a list with commas between them. A comma at the end is no item.
pub(crate) fn items(text: &str) -> impl Iterator<Item = &str> {
    let items = text.split(',').map(str::trim);
    items.filter(|item| !item.is_empty())
}
