//! Call flows through the one door of the room.

mod challenges;
mod garbage;
mod incoming;
mod mid_call;
mod network;
mod outgoing;
mod phones;
mod registrations;
mod table;
mod world;
