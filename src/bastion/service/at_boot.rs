//! Who decides whether a tunnel starts at boot.

/// What becomes of the start at boot with a tunnel that is put in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AtBoot {
    /// It stays as it is: an administrator may have disabled the service, or a tunnel, on purpose.
    AsItIs,
    /// The tunnel starts with the service, whenever that does.
    WithTheService,
    /// The service starts, and the tunnel with it: what a setup promises.
    Enabled,
}
