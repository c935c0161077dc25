//! All tests of the house as a whole, in one program: it is linked once. A test's name begins with its file's:
//! `cargo nextest run -p tests interop_calls::`. A test of `tidy.rs` sees that no file is left out.

#[path = "tests/circles.rs"]
mod circles;
#[path = "tests/code_map.rs"]
mod code_map;
#[path = "tests/contract_clients.rs"]
mod contract_clients;
#[path = "tests/contract_menu.rs"]
mod contract_menu;
#[path = "tests/contract_provider.rs"]
mod contract_provider;
#[path = "tests/failure_applications.rs"]
mod failure_applications;
#[path = "tests/failure_nodes.rs"]
mod failure_nodes;
#[path = "tests/failure_process.rs"]
mod failure_process;
#[path = "tests/failure_readers.rs"]
mod failure_readers;
#[path = "tests/failure_restart.rs"]
mod failure_restart;
#[path = "tests/failure_resume.rs"]
mod failure_resume;
#[path = "tests/failure_shutdown.rs"]
mod failure_shutdown;
#[path = "tests/failure_standby.rs"]
mod failure_standby;
#[path = "tests/fuzz.rs"]
mod fuzz;
#[path = "tests/hostile_applications.rs"]
mod hostile_applications;
#[path = "tests/hostile_bodies.rs"]
mod hostile_bodies;
#[path = "tests/hostile_connections.rs"]
mod hostile_connections;
#[path = "tests/hostile_memory.rs"]
mod hostile_memory;
#[path = "tests/hostile_strangers.rs"]
mod hostile_strangers;
#[path = "tests/interop_calls.rs"]
mod interop_calls;
#[path = "tests/interop_cti.rs"]
mod interop_cti;
#[path = "tests/interop_demo.rs"]
mod interop_demo;
#[path = "tests/interop_failures.rs"]
mod interop_failures;
#[path = "tests/interop_keys.rs"]
mod interop_keys;
#[path = "tests/interop_load.rs"]
mod interop_load;
#[path = "tests/interop_media.rs"]
mod interop_media;
#[path = "tests/interop_phones.rs"]
mod interop_phones;
#[path = "tests/interop_reload.rs"]
mod interop_reload;
#[path = "tests/interop_sip.rs"]
mod interop_sip;
#[path = "tests/interop_spaces.rs"]
mod interop_spaces;
#[path = "tests/interop_srtp.rs"]
mod interop_srtp;
#[path = "tests/interop_stacks.rs"]
mod interop_stacks;
#[path = "tests/interop_torture.rs"]
mod interop_torture;
#[path = "tests/interop_transfers.rs"]
mod interop_transfers;
#[path = "tests/interop_trunks.rs"]
mod interop_trunks;
#[path = "tests/look_ups.rs"]
mod look_ups;
#[path = "tests/permission_credentials.rs"]
mod permission_credentials;
#[path = "tests/permission_logs.rs"]
mod permission_logs;
#[path = "tests/permission_matrix.rs"]
mod permission_matrix;
#[path = "tests/permission_reload.rs"]
mod permission_reload;
#[path = "tests/permission_tls.rs"]
mod permission_tls;
#[path = "tests/phones_alone.rs"]
mod phones_alone;
#[path = "tests/sdk_under_virtual_time.rs"]
mod sdk_under_virtual_time;
#[path = "tests/simulator.rs"]
mod simulator;
#[path = "tests/sip_addresses.rs"]
mod sip_addresses;
#[path = "tests/sip_dialogs.rs"]
mod sip_dialogs;
#[path = "tests/sip_flows.rs"]
mod sip_flows;
#[path = "tests/sip_lamps.rs"]
mod sip_lamps;
#[path = "tests/sip_offers.rs"]
mod sip_offers;
#[path = "tests/sip_phones.rs"]
mod sip_phones;
#[path = "tests/sip_registrar.rs"]
mod sip_registrar;
#[path = "tests/sip_wire.rs"]
mod sip_wire;
#[path = "tests/tidy.rs"]
mod tidy;
