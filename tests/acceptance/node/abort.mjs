// Aborts the run over HTTP while it streams: node abort.mjs BASE KEY VERSION TEXT
import { base, Chat, checkedTransport, key, report, rest } from './sdk.mjs';

const chunks = [];
const finished = [];
const errors = [];
const chat = new Chat({
  id: 'chat-1',
  transport: checkedTransport(chunks),
  onError: (error) => errors.push(error.message),
  onFinish: ({ isAbort, isError }) => finished.push({ isAbort, isError }),
});
const answered = chat.sendMessage({ text: rest[0] });
while (!chunks.some((chunk) => chunk.type === 'text-delta')) {
  await new Promise((resolve) => setImmediate(resolve));
}
const aborted = await (await fetch(`${base}/sessions/${key}/abort`, { method: 'POST' })).json();
await answered;
report({ aborted, status: chat.status, errors, finished, chunks, messages: chat.messages });
