// Drops the connection in mid-answer and takes the stream up again, with the default address or
// without the chat's id in it: node resume.mjs BASE KEY VERSION TEXT default|bare
import { api, checkedTransport, read, report, rest, send, user } from './sdk.mjs';

const [text, address] = rest;
const options =
  address === 'bare'
    ? { prepareReconnectToStreamRequest: () => ({ api: `${api}/stream` }) }
    : {};
const transport = checkedTransport([], options);
const dropped = new AbortController();
let before = null;
const stream = await send(transport, [user('m1', text)], { abortSignal: dropped.signal });
await read(stream, (message) => {
  before = message;
  const part = message.parts.find((each) => each.type === 'text');
  if (part?.text) dropped.abort();
}).catch((error) => {
  if (error.name !== 'AbortError') throw error;
});
const chunks = [];
const resumed = await checkedTransport(chunks, options).reconnectToStream({ chatId: 'chat-1' });
const after = resumed === null ? null : await read(resumed);
const idle = await transport.reconnectToStream({ chatId: 'chat-1' });
report({ before, after, idle, chunks });
