//! What the integration tests share.

/// Says that `test` cannot run here and why. With `SYSGRAFT_TEST_REQUIRE_ALL=1` in the environment
/// that is a failure.
///
/// # Panics
/// If all tests are required.
pub fn skip(test: &str, reason: &str) {
    if std::env::var_os("SYSGRAFT_TEST_REQUIRE_ALL").is_some_and(|value| value == "1") {
        panic!("{test} is required but cannot run: {reason}");
    }
    eprintln!("SKIPPED: {test}: {reason}");
}
