// One recorded run, read as if it happened now: node replay.mjs BASE KEY VERSION QUERY
import { base, checkedTransport, key, read, report, rest } from './sdk.mjs';

const api = `${base}/sessions/${key}/replay?format=ai-sdk&${rest[0]}`;
const chunks = [];
const transport = checkedTransport(chunks, { prepareReconnectToStreamRequest: () => ({ api }) });
const stream = await transport.reconnectToStream({ chatId: 'chat-1' });
report({ ...(await read(stream)), chunks });
