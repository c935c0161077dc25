//! A registrar and proxy that nobody here wrote: shows that a test phone works before the node is blamed.

use super::process::Process;
use super::{Lab, SOON, eventually};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A running kamailio. Every number may register with the password `pass-NUMBER`.
pub struct Kamailio {
    /// Where it listens, UDP and TCP.
    pub address: SocketAddr,
    /// Where it listens for TLS.
    pub tls: SocketAddr,
    /// Its certificate authority.
    pub ca: PathBuf,
    process: Process,
}

impl Kamailio {
    /// Starts a registrar and proxy and waits until it listens.
    pub async fn start(lab: &Lab) -> Kamailio {
        Kamailio::with_route(lab, REGISTRAR_ROUTE).await
    }

    /// Starts a proxy that stays in the path of every dialog (Record-Route) and passes everything new on to `next`.
    pub async fn in_front_of(lab: &Lab, next: SocketAddr) -> Kamailio {
        let route = PROXY_ROUTE
            .replace("NEXT", &next.to_string())
            .replace("FROM_HOST", &next.ip().to_string())
            .replace("FROM_PORT", &next.port().to_string());
        Kamailio::with_route(lab, &route).await
    }

    async fn with_route(lab: &Lab, route: &str) -> Kamailio {
        let folder = lab.folder("kamailio");
        let (address, tls) = (lab.address(), lab.address());
        let ca = write_certificates(&folder, address.ip());
        let file = folder.join("kamailio.cfg");
        let text = configuration(address, tls) + route;
        std::fs::write(&file, text).expect("the lab's folder can be written to");
        let mut command = Command::new("kamailio");
        command.env("PATH", search_path()).args(["-DD", "-E", "-m", "64", "-M", "8"]);
        // Paths in its files stand between quotes, so they are named from its folder.
        command.current_dir(&folder).args(["-f", "./kamailio.cfg", "-w", ".", "-Y", ".", "-P", "./pid"]);
        let process = Process::start("kamailio", command, &folder.join("log")).with_children();
        let mut kamailio = Kamailio { address, tls, ca, process };
        eventually("kamailio listens", SOON, async || {
            assert!(kamailio.process.ended().is_none(), "kamailio ended");
            TcpStream::connect(address).ok()
        })
        .await;
        kamailio
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// What it does as a registrar and proxy.
const REGISTRAR_ROUTE: &str = r#"request_route {
  if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; }
  if (is_method("REGISTER")) {
    if (!pv_www_authenticate("lab", "pass-$au", "0")) { www_challenge("lab", "1"); exit; }
    # A phone is reached on the connection that it registered on.
    fix_nated_register();
    save("location");
    exit;
  }
  if (has_totag()) {
    loose_route();
    handle_ruri_alias();
    set_contact_alias();
    t_relay();
    exit;
  }
  if (is_method("CANCEL")) { if (t_check_trans()) t_relay(); exit; }
  record_route();
  set_contact_alias();
  if (!lookup("location")) { sl_send_reply("404", "Not Found"); exit; }
  t_relay();
}
reply_route { set_contact_alias(); }
"#;

/// What it does in front of a node.
const PROXY_ROUTE: &str = r#"request_route {
  if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; }
  if (has_totag()) {
    if (!loose_route()) { sl_send_reply("404", "No Route"); exit; }
    xlog("L_ALERT", "passed on $rm in a dialog from $si:$sp\n");
    t_relay();
    exit;
  }
  if (is_method("CANCEL")) { if (t_check_trans()) t_relay(); exit; }
  if (is_method("REGISTER")) { add_path(); $du = "sip:NEXT"; t_relay(); exit; }
  record_route();
  # From the node to a phone that registered through here: its Path is the Route, its Contact the request line.
  if ($si == "FROM_HOST" && $sp == FROM_PORT) { loose_route(); xlog("L_ALERT", "passed on $rm to a phone\n"); t_relay(); exit; }
  $du = "sip:NEXT";
  t_relay();
}
"#;

fn search_path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// An authority and a certificate of its for the address; gives the authority's file.
fn write_certificates(folder: &Path, host: IpAddr) -> PathBuf {
    let mut authority = CertificateParams::new(Vec::new()).expect("no names are fine names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().expect("ring makes keys");
    let authority_certificate = authority.self_signed(&authority_key).expect("an authority may sign itself");
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().expect("ring makes keys");
    let own = CertificateParams::new(vec![host.to_string()]).expect("an address is a fine name");
    let certificate = own.signed_by(&key, &issuer).expect("the authority signs");
    let ca = folder.join("ca.pem");
    for (path, text) in [
        (ca.clone(), authority_certificate.pem()),
        (folder.join("cert.pem"), certificate.pem()),
        (folder.join("key.pem"), key.serialize_pem()),
    ] {
        std::fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
    ca
}

fn configuration(address: SocketAddr, tls: SocketAddr) -> String {
    let (host, port, tls_port) = (address.ip(), address.port(), tls.port());
    format!(
        r#"debug=1
log_stderror=yes
children=1
tcp_children=1
auto_aliases=no
listen=udp:{host}:{port}
listen=tcp:{host}:{port}
enable_tls=yes
listen=tls:{host}:{tls_port}
loadmodule "tls.so"
modparam("tls", "tls_method", "TLSv1.2+")
modparam("tls", "private_key", "./key.pem")
modparam("tls", "certificate", "./cert.pem")
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "rr.so"
loadmodule "path.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
loadmodule "siputils.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "xlog.so"
loadmodule "nathelper.so"
modparam("registrar|nathelper", "received_avp", "$avp(received)")
"#
    )
}
