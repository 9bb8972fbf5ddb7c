// What the scripts share: one version of the AI SDK, its transport, and its own idea of a chunk.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

// The packages lie in a cache folder, not beside this file.
const require = createRequire(`${process.env.NODE_PACKAGES}/package.json`);

export const load = (name) => import(pathToFileURL(require.resolve(name)));

export const [base, key, version, ...rest] = process.argv.slice(2);
export const sdk = version ? await load(version) : undefined;
export const api = `${base}/sessions/${key}/chat`;

// Collects every chunk that a transport gives and checks it against the version's own schema.
export function checkedTransport(chunks, options = {}) {
  const transport = new sdk.DefaultChatTransport({ api, ...options });
  const schema = sdk.uiMessageChunkSchema();
  const checked = (stream) =>
    stream?.pipeThrough(
      new TransformStream({
        async transform(chunk, controller) {
          const result = await schema.validate(chunk);
          if (!result.success) throw new Error(`refused ${JSON.stringify(chunk)}: ${result.error}`);
          chunks.push(chunk);
          controller.enqueue(chunk);
        },
      }),
    ) ?? null;
  return {
    resumeStreamIsReplay: transport.resumeStreamIsReplay,
    sendMessages: async (request) => checked(await transport.sendMessages(request)),
    reconnectToStream: async (request) => checked(await transport.reconnectToStream(request)),
  };
}

export const user = (id, text) => ({ id, role: 'user', parts: [{ type: 'text', text }] });

export const send = (transport, messages, options = {}) =>
  transport.sendMessages({
    chatId: 'chat-1',
    messages,
    trigger: 'submit-message',
    messageId: undefined,
    abortSignal: undefined,
    ...options,
  });

// Reads a stream of chunks the way the SDK's hooks do; returns the last state of the message.
export async function read(stream, onMessage = () => {}) {
  let last = null;
  const errors = [];
  const options = { stream, onError: (error) => errors.push(String(error.message ?? error)) };
  for await (const message of sdk.readUIMessageStream(options)) {
    last = structuredClone(message);
    onMessage(last);
  }
  return { message: last, errors };
}

// The SDK's chat without a framework: the state is plain fields, and its statuses are kept.
export class Chat extends (sdk?.AbstractChat ?? Object) {
  constructor({ messages = [], ...options }) {
    const statuses = ['ready'];
    super({
      ...options,
      state: {
        get status() {
          return statuses.at(-1);
        },
        set status(status) {
          statuses.push(status);
        },
        error: undefined,
        messages,
        pushMessage(message) {
          this.messages = [...this.messages, message];
        },
        popMessage() {
          this.messages = this.messages.slice(0, -1);
        },
        replaceMessage(index, message) {
          this.messages = this.messages.with(index, structuredClone(message));
        },
        snapshot: (value) => structuredClone(value),
      },
    });
    // Returns the statuses since it was called last.
    this.takeStatuses = () => statuses.splice(0, statuses.length, statuses.at(-1)).slice(1);
  }
}

export const textOf = (message) =>
  message.parts.map((part) => (part.type === 'text' ? part.text : '')).join('');

export async function until(probe) {
  while (!probe()) await new Promise((resolve) => setImmediate(resolve));
}

// Posts to the session, as no method of the SDK does.
export async function post(verb, body) {
  const headers = { 'Content-Type': 'application/json' };
  const response = await fetch(`${base}/sessions/${key}/${verb}`, { method: 'POST', headers, body });
  return response.json();
}

export const report = (result) => process.stdout.write(JSON.stringify(result));
