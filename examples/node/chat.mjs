// node chat.mjs <artifact folder> "What is the weather like in Chicago today?"
import { createEngine } from 'mergequant-web/node';

const [model, question] = process.argv.slice(2);
if (!model || !question) {
  console.error('usage: node chat.mjs <artifact folder> <question>');
  process.exit(2);
}

const engine = await createEngine({ model });
console.error(`${engine.info.name} (${engine.info.scheme}) on ${engine.info.adapter}`);
const stream = await engine.chat.completions.create({
  messages: [{ role: 'user', content: question }],
  temperature: 0,
  max_tokens: 128,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const { choices, usage } of stream) {
  process.stdout.write(choices[0]?.delta.content ?? '');
  if (usage) console.error(`\n${usage.prompt_tokens} prompt tokens, ${usage.completion_tokens} in the reply`);
}
engine.destroy();
process.exit(); // the GPU's device would keep Node running
