// What a user of useChat does in one sitting: two turns, the second again, a third that is stopped
// and aborted, a fourth over a connection that drops. After each the chat is noted.
// node machine.mjs BASE KEY VERSION FIRST SECOND STOPPED DROPPED same-chat|new-chat
import { Chat, checkedTransport, post, report, rest, textOf, until } from './sdk.mjs';

const [first, second, stopped, dropped, resuming] = rest;
let drop;
const transport = checkedTransport([], {
  fetch: async (url, options) => {
    const response = await fetch(url, options);
    if (response.body === null) return response;
    const wire = new TransformStream({
      start(controller) {
        drop = () => controller.error(new TypeError('network error')); // as browsers say it
      },
    });
    return new Response(response.body.pipeThrough(wire), response);
  },
});
let errors = [];
let finished = [];
const opened = (messages) =>
  new Chat({
    id: 'chat-1',
    transport,
    messages,
    onError: (error) => errors.push(error.message),
    onFinish: ({ isAbort, isDisconnect, isError }) =>
      finished.push({ isAbort, isDisconnect, isError }),
  });
let chat = opened([]);
const noted = (more = {}) => {
  const { status, error, messages } = chat;
  const statuses = chat.takeStatuses();
  const note = { status, statuses, error: error?.message ?? null, errors, finished, messages };
  [errors, finished] = [[], []];
  return { ...structuredClone(note), ...more };
};
const answering = () => until(() => chat.status === 'streaming' && textOf(chat.lastMessage));

const notes = {};
for (const text of [first, second]) {
  const length = chat.messages.length + 2;
  chat.sendMessage({ text });
  await until(() => chat.messages.length === length && chat.status === 'ready');
  notes[length === 2 ? 'first' : 'second'] = noted();
}
await chat.regenerate();
notes.regenerated = noted();

let answered = chat.sendMessage({ text: stopped });
await answering();
await chat.stop();
await answered;
notes.stopped = noted({ aborted: await post('abort') });

answered = chat.sendMessage({ text: dropped });
await answering();
drop();
await answered;
notes.dropped = noted();
// A new chat is what a page has that is loaded again: the messages up to the question.
if (resuming === 'new-chat') chat = opened(chat.messages.slice(0, -1));
await chat.resumeStream();
notes.resumed = noted();
await chat.resumeStream();
notes.idle = noted();
report(notes);
