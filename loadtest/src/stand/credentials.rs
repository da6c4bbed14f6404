//! Which credentials a stand-in knows, and the name of each that may be shown.
//! Called by every vendor's file.

/// Different credentials that get a state of their own.
const CREDENTIALS_AT_MOST: usize = 1000;

pub(super) struct Credentials {
    known: Vec<String>,
    /// No `--credential`: every new one is taken.
    open: bool,
}

impl Credentials {
    pub(super) fn new(given: &[String]) -> Self {
        Self { known: given.to_vec(), open: given.is_empty() }
    }

    /// `credential-1` for the first; None for a wrong one.
    pub(super) fn scope(&mut self, credential: &str) -> Option<String> {
        let place = match self.known.iter().position(|known| known == credential) {
            Some(place) => place,
            None if self.open && !credential.is_empty() && self.known.len() < CREDENTIALS_AT_MOST => {
                self.known.push(credential.to_owned());
                self.known.len() - 1
            }
            None => return None,
        };
        Some(format!("credential-{}", place + 1))
    }
}
