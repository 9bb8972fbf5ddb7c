// Some turns of one chat, with the SDK's own state machine: node turns.mjs BASE KEY VERSION TEXT...
import { Chat, checkedTransport, report, rest } from './sdk.mjs';

const chunks = [];
const sent = [];
const called = [];
const errors = [];
const finished = [];
const transport = checkedTransport(chunks, {
  fetch: (url, options) => {
    sent.push(JSON.parse(options.body));
    return fetch(url, options);
  },
});
const chat = new Chat({
  id: 'chat-1',
  transport,
  onToolCall: ({ toolCall }) => void called.push(toolCall),
  onError: (error) => errors.push(error.message),
  onFinish: ({ isAbort, isDisconnect, isError }) =>
    finished.push({ isAbort, isDisconnect, isError }),
});
for (const text of rest) await chat.sendMessage({ text });
report({
  status: chat.status,
  error: chat.error?.message ?? null,
  messages: chat.messages,
  chunks,
  sent,
  called,
  errors,
  finished,
});
