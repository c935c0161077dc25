//! Call flows through the machine's one door. Each test tells a story; the ladder of what the machine said is a
//! checked-in snapshot that a reviewer reads beside it.

mod basic;
mod devices;
mod dialling;
mod early;
mod encryption;
mod forwards;
mod found;
mod hops;
mod muting;
mod offers;
mod parties;
mod records;
mod silence;
mod tables;
mod transfer;
mod transfer_by_phone;
mod transfer_with;
mod walk;
mod world;
