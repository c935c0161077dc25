//! A registrar and proxy that nobody here wrote: shows that a test phone works before the node is blamed.

use super::process::Process;
use super::{Lab, SOON, eventually};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;

/// A running kamailio. Every number may register with the password `pass-NUMBER`.
pub struct Kamailio {
    /// Where it listens, UDP and TCP.
    pub address: SocketAddr,
    process: Process,
}

impl Kamailio {
    /// Starts it and waits until it listens.
    pub async fn start(lab: &Lab) -> Kamailio {
        let folder = lab.folder("kamailio");
        let address = lab.address();
        let file = folder.join("kamailio.cfg");
        std::fs::write(&file, configuration(address)).expect("the lab's folder can be written to");
        let mut command = Command::new("kamailio");
        command.env("PATH", search_path()).args(["-DD", "-E", "-m", "64", "-M", "8"]);
        command.arg("-f").arg(&file).arg("-Y").arg(&folder).arg("-P").arg(folder.join("pid"));
        let process = Process::start("kamailio", command, &folder.join("log"));
        let mut kamailio = Kamailio { address, process };
        eventually("kamailio listens", SOON, async || {
            assert!(kamailio.process.ended().is_none(), "kamailio ended");
            TcpStream::connect(address).ok()
        })
        .await;
        kamailio
    }

    /// Its address without the port.
    #[must_use]
    pub fn host(&self) -> IpAddr {
        self.address.ip()
    }
}

fn search_path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

fn configuration(address: SocketAddr) -> String {
    let (host, port) = (address.ip(), address.port());
    format!(
        r#"debug=1
log_stderror=yes
children=1
tcp_children=1
auto_aliases=no
listen=udp:{host}:{port}
listen=tcp:{host}:{port}
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "pv.so"
loadmodule "rr.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
loadmodule "siputils.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
request_route {{
  if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
  if (is_method("REGISTER")) {{
    if (!pv_www_authenticate("lab", "pass-$au", "0")) {{ www_challenge("lab", "1"); exit; }}
    save("location");
    exit;
  }}
  if (has_totag()) {{
    loose_route();
    t_relay();
    exit;
  }}
  if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
  record_route();
  if (!lookup("location")) {{ sl_send_reply("404", "Not Found"); exit; }}
  t_relay();
}}
"#
    )
}
