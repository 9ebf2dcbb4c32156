//! Any bytes as a blueprint: usable, or refused with a place; never a panic, never without end.
#![no_main]

use gcu_upgrade_manager::blueprint::Blueprint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for file in ["f.yaml", "f.json"] {
        if let Err(findings) = Blueprint::parse(file, bytes) {
            assert!(findings.iter().any(|f| f.is_error()), "refused without a reason");
        }
    }
});
