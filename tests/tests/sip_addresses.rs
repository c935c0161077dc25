//! Where a node listens and what it tells of that: wildcards, several addresses, both families, a mapped port. Asked as bytes
//! on the wire, as a certificate's names, and as `ctimanagers`.

use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use tests::lab::cti::Cti;
use tests::lab::node::{Config, Node, PASSWORD, hosts_can_be_given};
use tests::lab::{Lab, SOON, built, openssl};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// A SIP peer at an address of its own choice.
struct Peer {
    socket: UdpSocket,
}

impl Peer {
    async fn at(ip: IpAddr, port: u16) -> Peer {
        Peer { socket: UdpSocket::bind((ip, port)).await.expect("the address is this machine's") }
    }

    fn here(&self) -> SocketAddr {
        self.socket.local_addr().expect("bound")
    }

    async fn hear(&self) -> (String, SocketAddr) {
        let mut bytes = [0; 4_096];
        let (length, from) =
            timeout(SOON, self.socket.recv_from(&mut bytes)).await.expect("in time").expect("a message");
        (String::from_utf8_lossy(&bytes[..length]).into_owned(), from)
    }

    /// Asks with OPTIONS; gives the answer, which must come from where it was asked.
    async fn options(&self, node: SocketAddr) -> String {
        let here = self.here();
        let text = format!(
            "OPTIONS sip:{node} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bK{}\r\nMax-Forwards: 70\r\n\
             From: <sip:a@{here}>;tag=1\r\nTo: <sip:{node}>\r\nCall-ID: o{}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
            node.port(),
            here.port()
        );
        self.socket.send_to(text.as_bytes(), node).await.expect("sent");
        let (answer, from) = self.hear().await;
        assert_eq!(from, node, "the answer leaves from where it was asked");
        assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
        answer
    }
}

fn header<'a>(message: &'a str, name: &str) -> &'a str {
    let found = message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    found.unwrap_or_else(|| panic!("no {name} in {message}"))
}

fn placed(lab: &Lab, host: &Value, advertise: &Value) -> Config {
    Config::new(lab).changed(|root| {
        root["nodes"][0]["host"] = host.clone();
        root["nodes"][0]["advertise"] = advertise.clone();
    })
}

/// A call from a port of an application to the trunk: the INVITE as the trunk gets it, and where from.
async fn invite_at(lab: &Lab, node: &Node, trunk: &Peer) -> (Cti, String, SocketAddr) {
    let mut cti = Cti::plain(node.cti_plain).await;
    cti.open("ivr", PASSWORD).await;
    let media = json!({"mode": "static", "ip": lab.host(), "port": lab.port(), "codecs": ["PCMU"]});
    cti.call("device.open", json!({"device": "PORT_001", "media": media})).await;
    cti.call("call.make", json!({"device": "PORT_001", "destination": "9123"})).await;
    let (invite, from) = trunk.hear().await;
    assert!(invite.starts_with("INVITE "), "{invite}");
    (cti, invite, from)
}

fn with_trunk(config: Config, trunk: SocketAddr) -> Config {
    config.port("PORT_001", "5101").trunk("pstn", trunk).pattern("9.!", "pstn").user("ivr", &["PORT_001"])
}

/// In a container, or behind NAT: everything that names the node says what is advertised, each listener its own port.
#[tokio::test]
async fn a_node_at_every_address_names_what_is_advertised_and_answers_where_it_was_asked() {
    let lab = Lab::everywhere("advertise");
    let trunk = Peer::at(lab.host(), lab.port()).await;
    let told = json!({"udp": "203.0.113.5:15060", "sip": "203.0.113.5", "cti": "cti.example.com:12749"});
    let config = with_trunk(placed(&lab, &json!("0.0.0.0"), &told), trunk.here());
    let mut node = Node::start(&lab, config).await;
    // Each at an address of its own: only the one that was asked may answer.
    for ip in [lab.host(), "127.0.0.1".parse().expect("an address"), "127.0.0.9".parse().expect("an address")]
    {
        Peer::at(ip, 0).await.options(SocketAddr::new(ip, node.sip.port())).await;
    }
    let (mut cti, invite, from) = invite_at(&lab, &node, &trunk).await;
    assert_eq!(from.port(), node.sip.port());
    assert!(header(&invite, "Via").starts_with("SIP/2.0/UDP 203.0.113.5:15060;"), "{invite}");
    assert!(header(&invite, "Contact").contains("@203.0.113.5:15060"), "{invite}");
    assert!(header(&invite, "From").contains("@203.0.113.5"), "{invite}");
    // A response by that Via is the node's own.
    let refusal: String = ["Via", "From", "To", "Call-ID", "CSeq"]
        .iter()
        .map(|name| {
            format!("{name}: {}{}\r\n", header(&invite, name), if *name == "To" { ";tag=t" } else { "" })
        })
        .collect();
    let refusal = format!("SIP/2.0 486 Busy Here\r\n{refusal}Content-Length: 0\r\n\r\n");
    trunk.socket.send_to(refusal.as_bytes(), from).await.expect("sent");
    let failed = cti.expect("call.failed").await;
    assert_eq!(failed["leg"]["cause"]["code"], 17, "{failed}");

    let mut other = Cti::plain(node.cti_plain).await;
    let opened = other.open("ivr", PASSWORD).await;
    assert_eq!(opened["ctimanagers"], json!(["cti.example.com:12749"]));
    let names = openssl::x509(&node.pki().join("cm1.pem"), &["-ext", "subjectAltName"]);
    for name in ["203.0.113.5", "cti.example.com", "localhost", "127.0.0.1"] {
        assert!(names.contains(name), "{name}: {names}");
    }
    assert!(!names.contains("0.0.0.0"), "{names}");
    node.is_well();
}

/// Two networks and both families: each peer meets the address that is its own.
#[tokio::test]
async fn a_node_at_several_addresses_is_to_each_peer_the_one_that_it_knows() {
    let lab = Lab::new("addresses");
    let near: IpAddr = "127.0.0.1".parse().expect("an address");
    let trunk = Peer::at("127.0.0.77".parse().expect("an address"), lab.port()).await;
    // A machine may be without IPv6.
    let six: Option<IpAddr> = Some("::1".parse().expect("an address"));
    let six = six.filter(|ip| std::net::UdpSocket::bind((*ip, 0)).is_ok());
    let hosts: Vec<IpAddr> = [lab.host(), near].into_iter().chain(six).collect();
    let told = json!({near.to_string(): "198.51.100.7", "ipv6": "2001:db8::5"});
    let config = with_trunk(placed(&lab, &json!(hosts), &told), trunk.here());
    let node = Node::start(&lab, config).await;
    for ip in hosts {
        Peer::at(ip, 0).await.options(SocketAddr::new(ip, node.sip.port())).await;
    }
    let (mut cti, invite, from) = invite_at(&lab, &node, &trunk).await;
    assert_eq!(from, SocketAddr::new(near, node.sip.port()), "the trunk's neighbour");
    assert!(header(&invite, "Contact").contains("@198.51.100.7:"), "{invite}");
    let opened = Cti::plain(node.cti_plain).await.open("ivr", PASSWORD).await;
    let port = node.cti.port();
    let mut all = vec![format!("{}:{port}", lab.host()), format!("198.51.100.7:{port}")];
    all.extend(six.map(|_| format!("[2001:db8::5]:{port}")));
    assert_eq!(opened["ctimanagers"], json!(all));
    cti.call("provider.close", json!({})).await;
}

/// A name stands for all its addresses on this machine, of both families; and not for another machine's.
#[tokio::test]
async fn a_node_at_a_name_listens_on_all_its_addresses() {
    // A container may forbid namespaces; then only what the machine's own names have could be seen.
    if !hosts_can_be_given() {
        return eprintln!("no mount namespaces here");
    }
    let lab = Lab::new("name");
    let [near, six]: [IpAddr; 2] = ["127.0.0.87", "::1"].map(|ip| ip.parse().expect("an address"));
    let six = Some(six).filter(|ip| std::net::UdpSocket::bind((*ip, 0)).is_ok());
    let addresses: Vec<IpAddr> = [lab.host(), near].into_iter().chain(six).collect();
    let elsewhere: IpAddr = "192.0.2.77".parse().expect("an address");
    let lines = addresses.iter().chain([&elsewhere]).map(|ip| format!("{ip} pbx.example.com\n"));
    let hosts: String = ["127.0.0.1 localhost\n".to_owned()].into_iter().chain(lines).collect();
    let config = placed(&lab, &json!("pbx.example.com"), &Value::Null).user("ivr", &[]);
    let mut node = Node::start_knowing(&lab, config, &hosts).await;
    for ip in addresses {
        Peer::at(ip, 0).await.options(SocketAddr::new(ip, node.sip.port())).await;
        let mut cti = Cti::plain(SocketAddr::new(ip, node.cti_plain.port())).await;
        cti.open("ivr", PASSWORD).await;
        for at in [node.sip, node.sips, node.cti, node.web] {
            let at = SocketAddr::new(ip, at.port());
            tokio::net::TcpStream::connect(at).await.unwrap_or_else(|error| panic!("{at}: {error}"));
        }
    }
    let beside: SocketAddr = (Ipv4Addr::new(127, 0, 0, 88), node.cti.port()).into();
    assert!(tokio::net::TcpStream::connect(beside).await.is_err(), "no other address of the machine");
    assert!(node.log().contains("address=192.0.2.77"), "whose it is not: {}", node.log());
    node.is_well();
}

/// What can't be told to anybody is a mistake, with its place.
#[tokio::test]
async fn a_wildcard_without_anything_to_advertise_is_a_mistake() {
    let lab = Lab::new("wildcard");
    let mistakes = |host: Value, advertise: Value| -> Vec<String> {
        let file = lab.file("files", "config");
        std::fs::write(&file, placed(&lab, &host, &advertise).to_string()).expect("writable");
        let mut command = Command::new(built("ctimanager"));
        let output =
            command.arg("check-config").arg(&file).args(["--output", "json"]).output().expect("it runs");
        let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let mistakes = said["mistakes"].as_array().expect("a list");
        assert_eq!(output.status.code(), Some(i32::from(!mistakes.is_empty())), "{said}");
        let line = |one: &Value| format!("{}: {}", one["path"].as_str().unwrap_or_default(), one["message"]);
        mistakes.iter().map(line).collect()
    };
    for (host, advertise, wanted) in [
        (json!("0.0.0.0"), Value::Null, "(udp, tcp, tls, cti)"),
        (json!("::"), Value::Null, "every IPv6 address"),
        (json!("0.0.0.0"), json!("2001:db8::5"), "nothing listens on an IPv6 address"),
        (json!(["::1", "0.0.0.0"]), json!({"udp": "203.0.113.5"}), "(tcp, tls, cti)"),
        (json!(["10.0.0.1", "0.0.0.0"]), json!("203.0.113.5"), "one of them is every address of its family"),
    ] {
        let told = mistakes(host, advertise);
        assert!(told.len() == 1 && told[0].starts_with("nodes[0].") && told[0].contains(wanted), "{told:?}");
    }
    for (host, advertise) in [
        (json!("0.0.0.0"), json!("203.0.113.5")),
        (json!("::"), json!("cm1.example.com")),
        (json!(["0.0.0.0", "::"]), json!(["203.0.113.5", "2001:db8::5"])),
        (json!("0.0.0.0"), json!({"sip": "203.0.113.5", "cti": "203.0.113.6:12749"})),
        (json!({"sip": "10.0.0.1", "cti": "10.0.0.2", "web": "0.0.0.0"}), Value::Null),
    ] {
        assert_eq!(mistakes(host, advertise), [""; 0]);
    }
}
