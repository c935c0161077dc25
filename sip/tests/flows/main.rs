//! Call flows through the one door of the room.

mod incoming;
mod mid_call;
mod outgoing;
mod phones;
mod world;
