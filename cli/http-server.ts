/** The engine behind OpenAI's HTTP interface. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { RequestError } from '../src/api/chat-request';
import type { ChatCompletions } from '../src/api/completions';
import type { ChatCompletionRequest } from '../src/api/openai-types';
import { LogitBiasError } from '../src/engine/errors';

export interface ServerOptions {
  readonly completions: ChatCompletions;
  /** Names besides this machine's own that requests may be addressed to. */
  readonly hosts?: readonly string[];
  /** Asked for as `Authorization: Bearer …`; without it whoever reaches the port may ask. */
  readonly apiKey?: string;
  /** Web pages of this origin (`*`: of any) may ask. */
  readonly corsOrigin?: string;
}

/** A refusal with its HTTP status. */
class HttpError extends Error {
  override readonly name = 'HttpError';
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

const mostBodyBytes = 8 * 2 ** 20;
const loopback = ['localhost', '127.0.0.1', '[::1]'];
/** Errors that are the request's fault. */
const requestFaults = new Set([
  'ContextFullError',
  'InvalidRequestError',
  'ChatTemplateError',
  'SamplingParameterError',
  'LogitBiasError',
  'JsonVocabularyError',
]);

/** A server that is not listening yet. */
export function createHttpServer(options: ServerOptions): Server {
  return createServer((request, response) => {
    answer(request, response, options).catch((error) => {
      if (response.headersSent) response.destroy(error);
      else sendError(response, error);
    });
  });
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  options: ServerOptions,
): Promise<void> {
  checkHost(request, options);
  if (options.corsOrigin) allowOrigin(response, options.corsOrigin);
  if (request.method === 'OPTIONS' && options.corsOrigin) return void response.writeHead(204).end();
  checkKey(request, options);
  const { pathname } = new URL(request.url ?? '/', 'http://localhost');
  switch (`${request.method} ${pathname}`) {
    case 'GET /v1/models':
      return sendJson(response, 200, modelList(options.completions));
    case 'POST /v1/chat/completions':
      return complete(request, response, options.completions);
    default:
      throw new HttpError(404, `there is no ${request.method} ${pathname}`);
  }
}

async function complete(
  request: IncomingMessage,
  response: ServerResponse,
  completions: ChatCompletions,
): Promise<void> {
  const body = (await readJson(request)) as ChatCompletionRequest;
  const left = new AbortController();
  response.on('close', () => left.abort(new HttpError(499, 'the client closed the connection')));
  const answer = await completions.create(body, { signal: left.signal });
  if (!(Symbol.asyncIterator in answer)) return sendJson(response, 200, answer);
  // The first chunk comes before the status: what fails until then is an HTTP error.
  let step = await answer.next();
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  try {
    for (; !step.done; step = await answer.next()) {
      response.write(`data: ${JSON.stringify(step.value)}\n\n`);
    }
    response.write('data: [DONE]\n\n');
  } catch (error) {
    response.write(`data: ${JSON.stringify(errorBody(error))}\n\n`);
  }
  response.end();
}

/** A name of somebody else's that points to this machine is how a web page gets past the browser. */
function checkHost(request: IncomingMessage, { hosts = [] }: ServerOptions): void {
  const name = (request.headers.host ?? '').replace(/:\d+$/, '').toLowerCase();
  if (!loopback.includes(name) && !hosts.includes(name)) {
    throw new HttpError(403, `requests to ${name || 'a host without a name'} are not answered here`);
  }
}

function checkKey(request: IncomingMessage, { apiKey }: ServerOptions): void {
  if (apiKey !== undefined && request.headers.authorization !== `Bearer ${apiKey}`) {
    throw new HttpError(401, 'the API key is missing or wrong');
  }
}

function allowOrigin(response: ServerResponse, origin: string): void {
  response.setHeader('access-control-allow-origin', origin);
  response.setHeader('access-control-allow-headers', 'authorization, content-type');
  response.setHeader('access-control-allow-methods', 'GET, POST, OPTIONS');
}

/** JSON must be announced as such: browsers send other types across origins without asking first. */
async function readJson(request: IncomingMessage): Promise<unknown> {
  if (!/^application\/json\b/i.test(request.headers['content-type'] ?? '')) {
    throw new HttpError(415, 'content-type: expected application/json');
  }
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes > mostBodyBytes) throw new HttpError(413, `the body has more than ${mostBodyBytes} bytes`);
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch (error) {
    throw new HttpError(400, `the body is not JSON: ${(error as Error).message}`);
  }
}

function modelList({ backend }: ChatCompletions) {
  const model = { id: backend.modelName, object: 'model', created: 0, owned_by: 'mergequant' };
  return { object: 'list', data: [model] };
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

function sendError(response: ServerResponse, error: unknown): void {
  sendJson(response, statusOf(error), errorBody(error));
}

function statusOf(error: unknown): number {
  if (error instanceof HttpError) return error.status;
  if (error instanceof RequestError) return 400;
  return error instanceof Error && requestFaults.has(error.name) ? 400 : 500;
}

function errorBody(error: unknown) {
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  const type = statusOf(error) < 500 ? 'invalid_request_error' : 'server_error';
  const param = error instanceof RequestError || error instanceof LogitBiasError ? error.param : null;
  return { error: { message, type, param, code: name } };
}
