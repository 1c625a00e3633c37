// Counts the hits of its page in Redis. Only what comes with node, so that the image needs no package manager.
'use strict';

const http = require('http');
const net = require('net');

const host = process.env.REDIS_HOST || 'redis';
const port = Number(process.env.REDIS_PORT || 6379);

// One connection, made when it is needed and again after it broke. Replies come in the order of the commands.
// https://redis.io/docs/latest/develop/reference/protocol-spec/
class Redis {
  constructor() {
    this.socket = null;
    this.waiting = [];
    this.received = '';
  }

  connect() {
    const socket = net.connect(port, host);
    this.socket = socket;
    socket.setEncoding('utf8');
    socket.setTimeout(2000);
    socket.on('timeout', () => {
      if (this.socket === socket && this.waiting.length > 0) socket.destroy(new Error('redis does not answer'));
    });
    socket.on('data', (chunk) => {
      if (this.socket === socket) this.read(chunk);
    });
    socket.on('error', (error) => this.lose(socket, error));
    socket.on('close', () => this.lose(socket, new Error('redis closed the connection')));
  }

  read(chunk) {
    this.received += chunk;
    for (let end; (end = this.received.indexOf('\r\n')) >= 0;) {
      const line = this.received.slice(0, end);
      this.received = this.received.slice(end + 2);
      const request = this.waiting.shift();
      if (!request) return this.socket.destroy(new Error('redis answers what nobody asked'));
      // INCR and PING answer with an integer, a status or an error: one line each.
      if (line[0] === ':') request.resolve(Number(line.slice(1)));
      else if (line[0] === '+') request.resolve(line.slice(1));
      else request.reject(new Error(line[0] === '-' ? line.slice(1) : 'unexpected reply ' + line));
    }
  }

  lose(socket, error) {
    if (this.socket !== socket) return;
    this.socket = null;
    this.received = '';
    this.waiting.splice(0).forEach((request) => request.reject(error));
  }

  send(...words) {
    return new Promise((resolve, reject) => {
      if (!this.socket) this.connect();
      this.waiting.push({ resolve, reject });
      this.socket.write(`*${words.length}\r\n` + words.map((w) => `$${Buffer.byteLength(w)}\r\n${w}\r\n`).join(''));
    });
  }
}

const redis = new Redis();

const page = (hits) => `<!DOCTYPE html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width">
  <title>Hits: ${hits}</title>
  <style>
    body { max-width: 36em; margin: 20vh auto; text-align: center; font: 1.1rem/1.6 system-ui, sans-serif; color: #223 }
    @media (prefers-color-scheme: dark) { body { background: #181a20; color: #dde } }
  </style>
</head>
<body>
  <h1>Hits: ${hits}</h1>
  <p>nginx asked node, and node asked Redis.</p>
</body>
</html>
`;

function answer(response, status, type, body) {
  response.writeHead(status, { 'Content-Type': `${type}; charset=utf-8`, 'Cache-Control': 'no-store' });
  response.end(body);
}

const routes = {
  '/': (request, response) => redis.send('INCR', 'hits').then((hits) => {
    const html = (request.headers.accept || '').includes('text/html');
    answer(response, 200, html ? 'text/html' : 'text/plain', html ? page(hits) : `Hits: ${hits}\n`);
  }),
  '/healthz': (request, response) => redis.send('PING').then(() => answer(response, 200, 'text/plain', 'ok\n')),
};

const server = http.createServer((request, response) => {
  const route = routes[request.url.split('?')[0]];
  if (!route) return answer(response, 404, 'text/plain', 'not found\n');
  return route(request, response).catch((error) => {
    console.error(`${request.url}: ${error.message}`);
    answer(response, 503, 'text/plain', `redis: ${error.message}\n`);
  });
});

// The kernel drops signals without a handler for the first process of a container.
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0));

server.listen(3000, () => console.log('listening on port 3000'));
