//! The machine of one open provider, and of the connection before it is open.
