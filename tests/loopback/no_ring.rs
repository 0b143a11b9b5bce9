//! A process that may not create a ring, as in a container under its default seccomp profile, runs on epoll and says so.

use std::process::Command;

/// Refuses io_uring_setup, io_uring_enter and io_uring_register (425 to 427) with EPERM to itself and to what it then
/// becomes: its arguments.
const WITHOUT_RINGS: &str = r"
import ctypes, os, struct, sys

def instruction(code, jump_true, jump_false, value):
    return struct.pack('HBBI', code, jump_true, jump_false, value)

LOAD, JUMP_GE, JUMP_GT, RETURN = 0x20, 0x35, 0x25, 0x06
ALLOW, EPERM = 0x7fff0000, 0x00050001
program = b''.join([
    instruction(LOAD, 0, 0, 0),
    instruction(JUMP_GE, 0, 2, 425),
    instruction(JUMP_GT, 1, 0, 427),
    instruction(RETURN, 0, 0, EPERM),
    instruction(RETURN, 0, 0, ALLOW),
])
code = ctypes.create_string_buffer(program, len(program))
filter = struct.pack('HxxxxxxP', len(program) // 8, ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, os.strerror(ctypes.get_errno())
assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter, 0, 0) == 0, os.strerror(ctypes.get_errno())
os.execv(sys.argv[1], sys.argv[1:])
";

fn without_rings(driver: &str) -> (bool, String, String) {
    let output = Command::new("python3")
        .args(["-c", WITHOUT_RINGS, env!("CARGO_BIN_EXE_adit")])
        .args(["up", "--once", "--json"])
        .env("ADIT_DRIVER", driver)
        .output()
        .expect("python3 is on this machine: the package is python3");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn it_runs_on_epoll_and_says_why_in_one_line() {
    let (good, stdout, stderr) = without_rings("auto");
    assert!(good, "{stdout}\n{stderr}");
    let message: serde_json::Value = serde_json::from_str(&stdout).expect("one object");
    assert_eq!((&message["driver"], &message["calls"], &message["failed"]), (&"epoll".into(), &200.into(), &0.into()));
    let lines: Vec<&str> = stderr.lines().filter(|line| line.contains("driver: ")).collect();
    assert_eq!(lines.len(), 1, "{stderr}");
    assert!(lines[0].contains("epoll (io_uring refused: EPERM"), "{}", lines[0]);
}

#[test]
fn a_ring_that_is_demanded_is_an_error_that_names_the_remedy() {
    let (good, _, stderr) = without_rings("uring");
    assert!(!good);
    assert!(stderr.contains("ADIT_DRIVER=auto"), "{stderr}");
}
