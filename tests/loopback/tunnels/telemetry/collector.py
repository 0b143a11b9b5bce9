"""A collector of OTLP over HTTP: it decodes requests with the messages that the OpenTelemetry project publishes, and prints one
line of JSON for each. With the argument `busy`, the first request with spans is answered with 503."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

KINDS = {
    "/v1/traces": (ExportTraceServiceRequest, ExportTraceServiceResponse),
    "/v1/metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse),
}
seen = {"busy": "busy" not in sys.argv}


def plain(attributes):
    found = {}
    for attribute in attributes:
        value = attribute.value
        found[attribute.key] = getattr(value, value.WhichOneof("value"))
    return found


def spans_of(request):
    for group in request.resource_spans:
        for scope in group.scope_spans:
            for span in scope.spans:
                yield {
                    "service": plain(group.resource.attributes)["service.name"],
                    "scope": scope.scope.name,
                    "trace": span.trace_id.hex(),
                    "span": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "name": span.name,
                    "kind": Span.SpanKind.Name(span.kind),
                    "start": span.start_time_unix_nano,
                    "end": span.end_time_unix_nano,
                    "attributes": plain(span.attributes),
                    "events": [event.name for event in span.events],
                    "links": [link.span_id.hex() for link in span.links],
                    "status": span.status.code,
                    "flags": span.flags,
                }


def metrics_of(request):
    for group in request.resource_metrics:
        for scope in group.scope_metrics:
            for metric in scope.metrics:
                yield MessageToDict(metric)


class Collector(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request, response = KINDS[self.path]
        message = request.FromString(body)
        # What the decoder does not know would be a wrong field number.
        message.DiscardUnknownFields()
        unknown = len(body) - message.ByteSize()
        spans = list(spans_of(message)) if self.path == "/v1/traces" else []
        metrics = list(metrics_of(message)) if self.path == "/v1/metrics" else []
        status = 200
        if spans and not seen["busy"]:
            seen["busy"], status = True, 503
        line = {
            "path": self.path,
            "status": status,
            "type": self.headers["Content-Type"],
            "token": self.headers["X-Token"],
            "unknown": unknown,
            "spans": spans,
            "metrics": metrics,
        }
        # Threads share the output, and a line is longer than what a pipe takes at once.
        with printing:
            print(json.dumps(line), flush=True)
        answer = response().SerializeToString() if status == 200 else b""
        self.send_response(status)
        if status == 503:
            self.send_header("Retry-After", "0")
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


printing = threading.Lock()
server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
print(json.dumps({"port": server.server_port}), flush=True)
server.serve_forever()
