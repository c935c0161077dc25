//! An auto-attendant at a route point: a menu prompt, one digit, a redirect; time-out or a wrong digit → the operator.
//!
//! ```sh
//! CTI_PASSWORD=… cargo run --example auto-attendant -- --server localhost:2749 --ca pki/ca.pem --user ivr1 \
//!     --route-point RP_MAIN --menu 1=2001,2=2002 --operator 2000 --ip 192.0.2.10 [--prompt menu.wav] [--timeout-s 5]
//! ```
//! What it does with a call is in `client::attendant`; this is what surrounds it.

use client::attendant::{self, Menu};
use client::media::{tone, wav};
use client::{Provider, ProviderConfig, Secret, Transport};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    let password = std::env::var("CTI_PASSWORD").map_err(|_| "CTI_PASSWORD is not set")?;
    let option = |name: &str| options.get(name).map(String::as_str);
    let needed = |name: &str| option(name).ok_or_else(|| format!("--{name} is missing"));

    let ca_pem = std::fs::read_to_string(needed("ca")?)?;
    let transport = Transport::Tls { ca_pem, server_name: None, identity: None };
    let config = ProviderConfig::new(
        needed("server")?,
        transport,
        needed("user")?,
        Secret::from(password),
        "attendant",
    );
    let menu = Menu {
        ip: option("ip").unwrap_or("127.0.0.1").parse()?,
        prompt: match option("prompt") {
            Some(path) => wav::read(path)?.into(),
            None => tone::sine(Menu::PROMPT_HZ, Duration::from_secs(3)).into(),
        },
        choices: choices(needed("menu")?)?,
        operator: needed("operator")?.to_owned(),
        timeout: Duration::from_secs(option("timeout-s").unwrap_or("5").parse()?),
        attempts: 3,
        listener: None,
    };

    let mut terminated = signal(SignalKind::terminate())?;
    let provider = Provider::connect(config).await?;
    let terminal = provider.terminal(needed("route-point")?);
    let calls = terminal.calls();
    terminal.open_with_dynamic_media().await?;
    tokio::select! {
        () = attendant::run(calls, Arc::new(menu)) => Err("the connection to the CTIManager is lost for good".into()),
        stopped = tokio::signal::ctrl_c() => {
            stopped?;
            Ok(provider.close().await?)
        }
        Some(()) = terminated.recv() => Ok(provider.close().await?),
    }
}

/// `--name value …`
fn options() -> Result<BTreeMap<String, String>, String> {
    let (mut options, mut arguments) = (BTreeMap::new(), std::env::args().skip(1));
    while let Some(argument) = arguments.next() {
        let name = argument.strip_prefix("--").ok_or(format!("{argument:?} is no option"))?;
        let value = arguments.next().ok_or(format!("--{name} needs a value"))?;
        options.insert(name.to_owned(), value);
    }
    Ok(options)
}

/// `1=2001,2=2002`
fn choices(menu: &str) -> Result<BTreeMap<char, String>, String> {
    let choice = |text: &str| {
        let (digit, number) = text.split_once('=')?;
        let mut digits = digit.chars();
        let (Some(digit), None) = (digits.next(), digits.next()) else { return None };
        (!number.is_empty()).then(|| (digit, number.to_owned()))
    };
    menu.split(',').map(|text| choice(text).ok_or(format!("{text:?} is not DIGIT=NUMBER"))).collect()
}
