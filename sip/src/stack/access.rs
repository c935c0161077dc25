//! Who may come in: registrations, digest, trunks.

use super::Stack;
use crate::call::{Server, Target};
use crate::message::Response;
use crate::port::{Directory, Hop, Output, Source};
use std::sync::Arc;
use std::time::Instant;

impl Stack {
    /// Who sent a new INVITE: a trunk by where it comes from, a phone by its password.
    pub(super) fn source_of(
        &mut self,
        _now: Instant,
        server: &Server,
        directory: &dyn Directory,
    ) -> Result<Source, Box<Response>> {
        let via_port = server.request.headers.top_via().map_or(5060, |via| via.port_or_default());
        if let Some(trunk) = directory.trunk(&server.hop, via_port) {
            return Ok(Source::Trunk(trunk));
        }
        Err(Box::new(server.reply(403)))
    }

    pub(super) fn register(
        &mut self,
        now: Instant,
        server: &Server,
        _directory: &dyn Directory,
        out: &mut Vec<Output>,
    ) {
        self.cx(now, out).refuse(server, 403);
    }

    pub(super) fn contacts(&self, _account: &Arc<str>, _number: &str) -> Vec<Target> {
        Vec::new()
    }

    pub(super) fn forget_account(&mut self, _now: Instant, _account: &Arc<str>, _out: &mut Vec<Output>) {}

    pub(super) fn registrar_closed(&mut self, _now: Instant, _hop: Hop, _out: &mut Vec<Output>) {}

    pub(super) fn registrar_timeout(&mut self, _now: Instant, _out: &mut Vec<Output>) {}
}
