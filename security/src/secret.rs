//! Texts that nobody may see: passwords and private keys.

use std::fmt;
use zeroize::Zeroizing;

/// A secret text. Its memory is overwritten when it is dropped, and `Debug` never shows it.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over without a copy.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, for the one place that needs it. Never log, format or store what this returns.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text in zeroize's own wrapper, for rooms that don't know this type.
    #[must_use]
    pub fn into_zeroizing(self) -> Zeroizing<String> {
        self.0
    }
}

impl From<Zeroizing<String>> for Secret {
    fn from(text: Zeroizing<String>) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_shows_nothing_of_it() {
        let secret = Secret::new("wonderland".into());
        let shown = format!("{secret:?} {:?}", Some(secret.clone()));
        assert!(!shown.contains("wonderland"), "{shown}");
        assert_eq!(secret.into_zeroizing().as_str(), "wonderland");
    }
}
