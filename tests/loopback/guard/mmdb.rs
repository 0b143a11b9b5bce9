//! Writes a small file in MaxMind's format (maxmind.github.io/MaxMind-DB, version 2.0): IPv4 networks and their AS numbers.

use std::net::Ipv4Addr;

/// Beyond the search tree and sixteen zero bytes, data begins.
const SEPARATOR_LEN: usize = 16;

/// The content of a file that knows these networks: address, length of the prefix, AS number. None within another.
pub(crate) fn asn_file(networks: &[(Ipv4Addr, u8, u32)]) -> Vec<u8> {
    // Each node has two records: a node, a value behind all nodes, or nothing.
    let mut nodes: Vec<[Record; 2]> = vec![[Record::Nothing; 2]];
    let mut data = Vec::new();
    for (address, len, asn) in networks {
        let mut node = 0;
        for bit in 0..*len {
            let side = (address.to_bits() >> (31 - bit) & 1) as usize;
            if bit + 1 == *len {
                nodes[node][side] = Record::Value(data.len());
            } else if let Record::Node(next) = nodes[node][side] {
                node = next;
            } else {
                nodes.push([Record::Nothing; 2]);
                nodes[node][side] = Record::Node(nodes.len() - 1);
                node = nodes.len() - 1;
            }
        }
        data.extend(map(1));
        data.extend(text("autonomous_system_number"));
        data.extend(unsigned(6, &asn.to_be_bytes()));
    }
    let mut file = Vec::new();
    for record in nodes.iter().flatten() {
        let number = match record {
            Record::Node(index) => *index,
            Record::Nothing => nodes.len(),
            Record::Value(offset) => nodes.len() + SEPARATOR_LEN + offset,
        };
        file.extend(&u32::try_from(number).expect("a small file").to_be_bytes()[1..]);
    }
    file.extend([0; SEPARATOR_LEN]);
    file.extend(data);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    file.extend(metadata(nodes.len()));
    file
}

#[derive(Clone, Copy)]
enum Record {
    Node(usize),
    Value(usize),
    Nothing,
}

fn metadata(nodes: usize) -> Vec<u8> {
    let number = |kind, number: u64| unsigned(kind, &number.to_be_bytes());
    let fields: [(&str, Vec<u8>); 8] = [
        ("node_count", number(6, nodes as u64)),
        ("record_size", number(5, 24)),
        ("ip_version", number(5, 4)),
        ("database_type", text("Test-ASN")),
        ("languages", vec![0, 4]),
        ("binary_format_major_version", number(5, 2)),
        ("binary_format_minor_version", number(5, 0)),
        ("build_epoch", number(9, 1_767_225_600)),
    ];
    let mut out = map(fields.len() as u8 + 1);
    for (name, value) in fields {
        out.extend(text(name));
        out.extend(value);
    }
    out.extend(text("description"));
    out.extend(map(0));
    out
}

fn map(len: u8) -> Vec<u8> {
    vec![7 << 5 | len]
}

fn text(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len()).expect("a short text");
    let head = if len < 29 { vec![2 << 5 | len] } else { vec![2 << 5 | 29, len - 29] };
    [head.as_slice(), text.as_bytes()].concat()
}

/// An unsigned number of this type, 5 for 16 bits, 6 for 32, 9 for 64, without leading zeroes.
fn unsigned(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let bytes = &bytes[start..];
    let len = bytes.len() as u8;
    let head = if kind < 8 { vec![kind << 5 | len] } else { vec![len, kind - 7] };
    [head.as_slice(), bytes].concat()
}
