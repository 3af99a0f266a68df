//! What several integration tests need.

/// Says that `test` did not run, and why; a failure if `SYSGRAFT_TEST_REQUIRE_ALL` is `1`.
pub fn skip(test: &str, reason: &str) {
    let required = std::env::var_os("SYSGRAFT_TEST_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(!required, "{test} cannot run: {reason}");
    eprintln!("SKIPPED: {test}: {reason}");
}
