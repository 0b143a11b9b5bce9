//! What the help of each command shows at its end: examples, what it needs, and its exit codes.

pub(super) const APPROVALS_EXAMPLES: &str = "Examples:
  adit approvals list
  adit approvals approve apr_5fdc68a3c743df439c27fa62e688addb --by alice --reason 'agreed with the customer'
  adit approvals deny apr_5fdc68a3c743df439c27fa62e688addb --by alice

Rules of a policy with effect = \"approve\" have calls wait here. It needs the admin token of the process that has the policy: of an edge
with a data directory, or of a connector with connect.admin_token_file. Exit code 1 means that nothing was decided.";

pub(super) const AUDIT_EXAMPLES: &str = "Examples:
  adit audit verify /var/lib/adit/audit
  adit audit query /var/lib/adit/audit --tool delete_user --since 24h
  adit audit export /var/lib/adit/audit --format csv --since 2026-07-01T00:00:00Z

They read the files of the log (audit.dir), whether or not a process writes it. Exit code 1 means that `verify` found a fault, or
that the log cannot be read, 2 a wrong flag.";

pub(super) const POLICY_EXAMPLES: &str = "Examples:
  adit policy check policy.toml
  adit policy test policy.toml
  adit policy explain policy.toml --as support --call delete_ticket
  adit policy diff policy.toml --audit /var/lib/adit/audit";

pub(super) const EDGE_EXAMPLES: &str = "Examples:
  adit edge --config adit.toml
  adit edge --config adit.toml --listen 0.0.0.0:443 --agents-cert-file site.crt --agents-key-file site.key
  adit edge init --data-dir /var/lib/adit --name edge.example.com
  adit edge --data-dir /var/lib/adit --listen 0.0.0.0:443 --agents-cert-file site.crt --agents-key-file site.key \\
      --tunnel-domain tunnel.example.com

Tunnels and their secrets are defined in the file, as [[tunnel]], or created by `adit tunnel create` while an edge with a
data directory runs. Exit code 2 means a wrong flag or configuration.";

pub(super) const TUNNEL_EXAMPLES: &str = "Examples:
  adit tunnel create --data-dir /var/lib/adit --host orders.mcp.example.com
  adit tunnel rotate tnl_jmuv4epfyshqtyubs5ebe3k9 --overlap 1h --reason quarterly
  adit tunnel revoke tnl_jmuv4epfyshqtyubs5ebe3k9 --leak-report 24h
  ADIT_ADMIN_URL=http://127.0.0.1:9443 ADIT_ADMIN_TOKEN_FILE=admin.token adit tunnel list --json

They use the admin API of a running edge, with the admin token that `adit edge init` created. Exit code 1 means that the edge
refused or cannot be reached, 2 a wrong flag.";

pub(super) const CONNECT_EXAMPLES: &str = "Examples:
  adit connect --config adit.toml
  adit connect --edge edge.example.com:7844 --id tnl_demo --secret-file demo.secret \\
      --route demo.example.com=http://127.0.0.1:9000
  ADIT_TUNNEL_SECRET=… adit connect --edge edge.example.com:7844 --id tnl_demo \\
      --route demo.example.com=unix:/run/mcp.sock
  adit connect --edge edge.example.com:7844 --id tnl_demo --secret-file demo.secret --route demo.example.com \\
      -- npx -y @modelcontextprotocol/server-everything

Exit code 2 means a wrong flag or configuration.";

pub(super) const CLOUDFLARED_EXAMPLES: &str = "Examples:
  adit cloudflared tunnel run --token TOKEN --url http://localhost:8080
  adit cloudflared tunnel --edge edge.example.com:7844 --cacert ca.pem run --token-file token

The same when the program is started under the name cloudflared. docs/CLOUDFLARED.md says what differs.
Its exit codes are those of cloudflared: 1 for a failure, and 255 for a wrong command line.";

pub(super) const UP_EXAMPLES: &str = "Examples:
  adit up                                    # with the built-in demo server
  adit up --upstream http://127.0.0.1:9000   # with your own server
  adit up -- uvx mcp-server-time             # with a server that speaks over standard input and output
  adit up --once --json                      # 200 calls, then their times as JSON

Exit code 1 means that a call failed, 2 a wrong flag or configuration.";

pub(super) const CLIENT_CONFIG_EXAMPLES: &str = "Examples:
  adit client-config
  adit client-config cursor
  adit client-config claude-code --url https://orders.tunnel.example.com/mcp --name orders --token-env ORDERS_TOKEN
  adit client-config --url https://orders.tunnel.example.com/mcp --json

Without --url it asks the admin API of a running process, such as `adit up`. It changes no file. Exit code 1 means that the
process cannot be reached, 2 a wrong flag or an unknown URL.";

pub(super) const COMPLETIONS_EXAMPLES: &str = "Examples:
  source <(adit completions bash)        # in ~/.bashrc
  source <(adit completions zsh)         # in ~/.zshrc, after compinit
  adit completions fish | source         # in ~/.config/fish/config.fish";

pub(super) const MAN_EXAMPLES: &str = "Examples:
  adit man ~/.local/share/man/man1

Exit code 1 means that the pages cannot be written.";

pub(super) const INIT_EXAMPLES: &str = "Examples:
  adit init edge
  adit init connector --edge edge.example.com:7844 --host orders.tunnel.example.com --upstream http://127.0.0.1:3000
  adit init connector --edge edge.example.com:7844 --host time.tunnel.example.com -- uvx mcp-server-time

It asks for what no flag gives, if standard input is a terminal. No file is overwritten. Exit code 1 means that the file exists or
cannot be written, 2 a missing or wrong value.";

pub(super) const IMPORT_EXAMPLES: &str = "Examples:
  adit import
  adit import --into connect.toml --domain tunnel.example.com --dry-run
  adit import --into connect.toml --domain tunnel.example.com
  adit import --from ~/.cursor/mcp.json --only github --json

The files of the clients are only read. Values that may be secrets are not copied: they stay variables of the environment of
`adit connect`. Exit code 1 means that a file cannot be read or written, 2 a wrong flag or configuration.";

pub(super) const DASHBOARD_EXAMPLES: &str = "Examples:
  adit dashboard --data-dir /var/lib/adit
  adit dashboard --admin http://127.0.0.1:9444 --admin-token-file /etc/adit/admin.token
  xdg-open \"$(adit dashboard --data-dir /var/lib/adit)\"

The dashboard is a page of the admin API of a running edge or connector. The log-in needs its admin token, and ends after 8 hours.
Without a token the URL shows the same and changes nothing. Exit code 1 means that the process cannot be reached or refused, 2 a
wrong flag.";

pub(super) const TOP_EXAMPLES: &str = "Examples:
  adit top
  adit top --admin http://127.0.0.1:9444 --interval 2s
  adit top --plain --count 2 --interval 10s

It reads the admin API of a running edge or connector, and needs no token. Press ? for the keys. If standard output is not a terminal,
it prints text for each sample. NO_COLOR turns colours off. Exit code 1 means that the process cannot be reached, 2 a wrong flag.";

pub(super) const SUPPORT_BUNDLE_EXAMPLES: &str = "Examples:
  adit support-bundle --config edge.toml
  adit support-bundle --config connect.toml --url https://orders.tunnel.example.com/mcp --output case-17.tar.gz

It changes nothing but the archive. A part that cannot be had is replaced by the reason. Exit code 1 means that the archive cannot be
written, 2 a wrong flag.";

pub(super) const DOCTOR_EXAMPLES: &str = "Examples:
  adit doctor --config connect.toml
  adit doctor --config connect.toml --url https://orders.tunnel.example.com/mcp
  adit doctor --config edge.toml --json

It changes nothing, and checks the roles that are configured. To test the connector's credentials it opens one link to each
edge, and closes it again. Exit code 2 means that a check failed.";

pub(super) const LATENCY_EXAMPLES: &str = "Examples:
  adit latency
  adit latency --route orders.mcp.example.com
  adit latency --admin http://127.0.0.1:9443 --json

It reads the admin API of a running process, and needs no token. Times are in milliseconds: p50, p95 and p99 of the tunnel
(edge, link and connector) and of the server, since the process started. Exit code 1 means that the process cannot be reached,
2 a wrong flag.";

pub(super) const CALLS_EXAMPLES: &str = "Examples:
  adit calls
  adit calls --failed --since 10m
  adit calls --host orders.mcp.example.com --tool search --limit 200
  adit calls --admin http://127.0.0.1:9443 --json

It reads the admin API of a running edge or connector, and needs no token. STOPPED AT says how far a call came: accept and tls
are connections that made no call. Each core keeps the last calls (calls_kept), failed and slow ones apart from the others. Exit
code 1 means that the process cannot be reached, 2 a wrong flag.";

pub(super) const EXPLAIN_EXAMPLES: &str = "Examples:
  adit explain 1f3
  adit explain 4bf92f3577b34da6a3ce929d0e0e4736
  adit explain 1f3 --json

The id is one that `adit calls` shows, or the trace id of the agent (traceparent). Exit code 1 means that no such call is kept, or
that the process cannot be reached, 2 a wrong flag.";

pub(super) const BREAKERS_EXAMPLES: &str = "Examples:
  adit breakers
  adit breakers open orders.mcp.example.com refund --data-dir /var/lib/adit
  adit breakers auto orders.mcp.example.com refund --data-dir /var/lib/adit

Showing breakers needs no token. `open`, `close` and `auto` need the admin token of the edge; `open` also needs
`breaker = \"enforce\"`. A forced state lasts until `auto`, or until the edge ends. Exit code 1 means that the edge refused or
cannot be reached, 2 a wrong flag.";

pub(super) const TOOLS_EXAMPLES: &str = "Examples:
  adit tools list --pending
  adit tools diff tickets.example.com --admin http://127.0.0.1:9444 --admin-token-file /etc/adit/admin.token
  adit tools approve tickets.example.com search --admin http://127.0.0.1:9444 --admin-token-file /etc/adit/admin.token

The tools of a server are learned from the lists that pass, on routes with `pin`. `list` and `diff` need no token; `diff`
repeats its flags in the commands that it prints. `approve` needs the admin token of the edge or connector; a connector has one with
`connect.admin_token_file`. Exit code 1 means that it refused or
cannot be reached, 2 a wrong flag.";

pub(super) const REPORT_EXAMPLES: &str = "Examples:
  adit report --config adit.toml
  adit report --config adit.toml --since 720h --format html

It reads the configuration, the audit log and the inventory of tools, on the host where these are. Exit code 1 means that one of them
cannot be read, 2 a wrong flag or configuration.";

pub(super) const LIMITS_EXAMPLES: &str = "Examples:
  adit limits
  adit limits --admin http://127.0.0.1:9443 --json

It reads the admin API of a running edge, and needs no token. FOR SHARE are the refused calls whose agent had its share of the
limit. WOULD REFUSE are the calls beyond the limit while it was not enforced. Exit code 1 means that the edge cannot be reached,
2 a wrong flag.";

pub(super) const TASKS_EXAMPLES: &str = "Examples:
  adit tasks
  adit tasks --by amplification --limit 10
  adit tasks --admin http://127.0.0.1:9443 --json

It reads the admin API of a running edge, and needs no token. AMPLIFIED is calls divided by calls that were not repetitions. A
repetition has the same tool and arguments as a call of the same task in the last ten minutes, among its last 32 different calls.
TOKENS are estimated: a quarter of the bytes of answers that are text or JSON. TUNNEL and SERVER are in milliseconds. Exit code 1
means that the edge cannot be reached, 2 a wrong flag.";

pub(super) const CONFIG_EXAMPLES: &str = "Examples:
  adit config check --config adit.toml
  ADIT_LOG=debug adit config show --config adit.toml --set edge.drain_timeout_ms=5s";
