// A prompt whose tool call waits for approval, answered as a page does it, and what follows:
// node approve.mjs BASE KEY VERSION TEXT approve|deny
import { Chat, checkedTransport, report, rest, sdk, until } from './sdk.mjs';

const [text, answer] = rest;
const chunks = [];
const errors = [];
const chat = new Chat({
  id: 'chat-1',
  transport: checkedTransport(chunks),
  sendAutomaticallyWhen: sdk.lastAssistantMessageIsCompleteWithApprovalResponses,
  onError: (error) => errors.push(error.message),
});
await chat.sendMessage({ text });
const asked = structuredClone(chat.lastMessage);
const before = chunks.splice(0);
for (const part of asked.parts.filter((each) => each.state === 'approval-requested')) {
  await chat.addToolApprovalResponse({ id: part.approval.id, approved: answer === 'approve' });
}
await until(() => chunks.some((chunk) => chunk.type === 'finish') || errors.length > 0);
await until(() => chat.status === 'ready' || chat.status === 'error');
report({ asked, before, chunks, errors, messages: chat.messages });
