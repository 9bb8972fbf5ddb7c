// One prompt, read with readUIMessageStream: node read.mjs BASE KEY VERSION TEXT
import { checkedTransport, read, report, rest, send, user } from './sdk.mjs';

const chunks = [];
const stream = await send(checkedTransport(chunks), [user('m1', rest[0])]);
report({ ...(await read(stream)), chunks });
