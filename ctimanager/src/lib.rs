//! # ctimanager: "when a node, a peer, a socket…"
