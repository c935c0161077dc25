use super::*;

#[test]
fn every_symbol_has_its_own_code_in_its_range_for_ever() {
    let table: String = Symbol::ALL.iter().map(|s| format!("{:6} {}\n", s.code(), s.name())).collect();
    insta::assert_snapshot!("codes", table);
    let codes: std::collections::BTreeSet<i32> = Symbol::ALL.iter().map(|s| s.code()).collect();
    assert_eq!(codes.len(), Symbol::ALL.len());
    for symbol in Symbol::ALL {
        let standard = matches!(symbol.code(), -32700 | -32600 | -32601 | -32602);
        assert!(standard || (-32099..=-32000).contains(&symbol.code()), "{symbol}");
        assert_eq!(Symbol::from_name(symbol.name()), Some(*symbol));
    }
}

#[test]
fn errors_read_back_what_they_wrote() {
    for error in [
        CtiError::new(Symbol::NoSuchLeg, "gone"),
        CtiError::invalid_params("media.port", "must be even"),
        CtiError::rate_limited(250),
        CtiError::illegal_call_state(LegState::Held, "the leg is on hold"),
        CtiError::not_permitted(Symbol::PrivilegeViolation, "no", "Standard CTI Allow Call Park Monitoring"),
    ] {
        let text = serde_json::to_string(&error).expect("writes");
        assert_eq!(serde_json::from_str::<CtiError>(&text).expect("reads"), error, "{text}");
    }
}

#[test]
fn an_error_of_a_later_version_keeps_its_name() {
    let text = r#"{"code":-32050,"message":"no lamp","data":{"cti":"NO_LAMP"}}"#;
    let error: CtiError = serde_json::from_str(text).expect("reads");
    assert_eq!((error.symbol, &*error.message), (Symbol::Internal, "NO_LAMP: no lamp"));
    let plain: CtiError = serde_json::from_str(r#"{"code":-32601,"message":"?"}"#).expect("reads");
    assert_eq!(plain.symbol, Symbol::MethodNotFound);
}
