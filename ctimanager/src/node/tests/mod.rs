//! A whole node under virtual time: SIP datagrams and CTI frames in, the same out.

mod asking;
mod certificates;
mod crowds;
mod flows;
mod hearing;
mod lamps;
mod limits;
mod mass;
mod matrix;
mod missing;
mod nodes;
mod pages;
mod persist;
mod portions;
mod registrations;
mod reload;
mod rights;
mod screening;
mod strangers;
mod world;
