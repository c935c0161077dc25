//! Call flows through the one door of the room.

mod belonging;
mod challenges;
mod encryption;
mod endings;
mod garbage;
mod incoming;
mod intervals;
mod mid_call;
mod network;
mod offers;
mod outgoing;
mod parties;
mod phones;
mod referrals;
mod registrations;
mod strangers;
mod subscription_table;
mod subscriptions;
mod table;
mod world;
