"""An https server for the guest, which sees this host as images.example (10.0.2.2): files, ranges, a brake."""
import http.server
import os
import re
import ssl
import threading
import time


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        path = os.path.join(self.server.folder, os.path.basename(self.path))
        if not os.path.isfile(path):
            return self.send_error(404)
        size = os.path.getsize(path)
        first, last, tag = 0, size - 1, '"%x-%x"' % (size, os.stat(path).st_mtime_ns)
        wanted = re.fullmatch(r'bytes=(\d+)-(\d*)', self.headers.get('Range', ''))
        partial = wanted and int(wanted[1]) < size and self.headers.get('If-Range', tag) == tag
        if partial:
            first, last = int(wanted[1]), min(int(wanted[2] or last), last)
        self.server.requests.append((self.path, first))
        self.send_response(206 if partial else 200)
        self.send_header('Content-Length', str(last - first + 1))
        self.send_header('Accept-Ranges', 'bytes')
        self.send_header('ETag', tag)
        if partial:
            self.send_header('Content-Range', 'bytes %d-%d/%d' % (first, last, size))
        self.end_headers()
        if self.command == 'HEAD':
            return
        with open(path, 'rb') as file:
            file.seek(first)
            while first <= last:
                piece = file.read(min(1 << 16, last - first + 1))
                self.wfile.write(piece)
                first += len(piece)
                self.server.sent = first
                if self.server.bytes_per_second:
                    time.sleep(len(piece) / self.server.bytes_per_second)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder, certificate):
        super().__init__(('127.0.0.1', 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.folder, self.requests, self.sent, self.bytes_per_second = folder, [], 0, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, name):
        return 'https://images.example:%d/%s' % (self.server_address[1], name)

    def handle_error(self, *_):
        pass  # the guest may vanish at any time
