// Follows a session's events until the seq that is written to standard input:
// node follow.mjs BASE KEY < SEQ. Every id is written as a line as soon as it is there.
import { createInterface } from 'node:readline';
import { base, key, load } from './sdk.mjs';

const { EventSource } = await load('eventsource');
const source = new EventSource(`${base}/sessions/${key}/events?after=0`);
let last = 0;
let end = Infinity;
const stopAtEnd = () => {
  if (last >= end) {
    source.close();
    process.exit(0);
  }
};
createInterface({ input: process.stdin }).on('line', (line) => {
  end = Number(line);
  stopAtEnd();
});
source.onmessage = (event) => {
  const data = JSON.parse(event.data);
  process.stdout.write(`${JSON.stringify({ id: event.lastEventId, type: data.type })}\n`);
  if (data.type !== 'hello') last = Number(event.lastEventId);
  stopAtEnd();
};
source.onerror = (event) => {
  process.stdout.write(`${JSON.stringify({ error: event.code ?? null })}\n`);
};
