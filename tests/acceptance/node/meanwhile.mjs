// Posts to the session while its answer streams, to abort or to steer:
// node meanwhile.mjs BASE KEY VERSION TEXT abort|steer [JSON]
import { Chat, checkedTransport, post, report, rest, until } from './sdk.mjs';

const [text, verb, body] = rest;
const chunks = [];
const finished = [];
const errors = [];
const chat = new Chat({
  id: 'chat-1',
  transport: checkedTransport(chunks),
  onError: (error) => errors.push(error.message),
  onFinish: ({ isAbort, isError }) => finished.push({ isAbort, isError }),
});
const answered = chat.sendMessage({ text });
await until(() => chunks.some((chunk) => chunk.type === 'text-delta'));
const posted = await post(verb, body);
await answered;
report({ posted, status: chat.status, errors, finished, chunks, messages: chat.messages });
