// node json.mjs <artifact folder> "Name a city as JSON: {\"city\": …}"
import { createEngine } from 'mergequant-web/node';

const [model, question] = process.argv.slice(2);
if (!model || !question) {
  console.error('usage: node json.mjs <artifact folder> <question>');
  process.exit(2);
}

const engine = await createEngine({ model });
const { choices } = await engine.chat.completions.create({
  messages: [{ role: 'user', content: question }],
  max_tokens: 256,
  response_format: { type: 'json_object' },
  logprobs: true,
});
const { message, finish_reason, logprobs } = choices[0];
// Cut by its length, a reply is only the beginning of an object.
console.log(finish_reason === 'stop' ? JSON.parse(message.content) : message.content);
const mean = logprobs.content.reduce((sum, { logprob }) => sum + logprob, 0) / logprobs.content.length;
console.error(
  `${logprobs.content.length} tokens, ${mean.toFixed(2)} nats each (of the model without the constraint)`,
);
engine.destroy();
process.exit(); // the GPU's device would keep Node running
