//! The name service of glibc in static programs.
#![allow(unsafe_code)]

/// Keeps glibc from loading what nsswitch.conf names: such modules bring a glibc of their own, and a
/// static program dies of the first look-up. `files` and `dns` have been parts of glibc since 2.34; where
/// systemd-resolved runs, the latter asks it.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
pub fn use_what_is_built_in() {
    use std::ffi::{CStr, c_char, c_int};

    unsafe extern "C" {
        // <nss.h>
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }

    let databases: [(&CStr, &CStr); 3] = [
        (c"hosts", c"files dns"),
        (c"passwd", c"files"),
        (c"group", c"files"),
    ];
    for (database, services) in databases {
        // SAFETY: both strings end in NUL and live for ever, glibc copies what it needs, and no other
        // thread runs yet. It fails only for names that it does not know.
        unsafe { __nss_configure_lookup(database.as_ptr(), services.as_ptr()) };
    }
}

/// Other programs are free to load modules.
#[cfg(not(all(target_env = "gnu", target_feature = "crt-static")))]
pub fn use_what_is_built_in() {}
