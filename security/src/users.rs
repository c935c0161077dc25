//! Users: who may open a provider, and with what.

use crate::devices::ControlledDevices;
use crate::groups::Groups;
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A user's id, as he types it at `provider.open` and as his certificate's CN says it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Arc<str>);

impl UserId {
    /// The id as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for UserId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl Borrow<str> for UserId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserId({})", self.0)
    }
}

/// CUCM's two kinds of user. Both may do what their groups allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UserKind {
    /// An application.
    ApplicationUser,
    /// A person.
    EndUser,
}

/// A user of CTI.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// His id.
    pub id: UserId,
    /// What he is.
    pub kind: UserKind,
    /// An argon2id PHC string. `None`: he can only come with a client certificate.
    pub password_hash: Option<Arc<str>>,
    /// His standard groups, his own bundles resolved.
    pub groups: Groups,
    /// The devices that he may control by name.
    pub controlled: ControlledDevices,
    /// How long his sessions wait for a lost connection without the application's wish; `None`: the cluster's.
    pub session_resume_grace: Option<Duration>,
}

impl fmt::Debug for User {
    /// Not the hash: whoever has it may guess at leisure.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("groups", &self.groups)
            .field("controlled", &self.controlled)
            .field("session_resume_grace", &self.session_resume_grace)
            .finish_non_exhaustive()
    }
}
