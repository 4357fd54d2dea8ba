// Makes models/demo-conversations.jsonl, more calibration text: what a user says is put together here, the replies are the float
// demo model's own. Needs `npm run build:cli`. Usage: node scripts/demo-conversations.mjs [count] > models/demo-conversations.jsonl
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createEngine } from '../dist/cli/node.js';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

const smallTalk = [
  ['Hi!', 'Who are you?', 'What can you help me with?', 'Goodbye!'],
  ['Who are you?', 'Do you run on my computer?', 'Nice to meet you.'],
  ['Hello there.', 'How are you today?', 'Who made you?'],
  ['What can you do?', 'Can you write code?', 'Alright, thank you.'],
  ['Are you a human?', 'What is your name?', 'Can you hear me?'],
  ['Good morning!', 'I am a bit bored.', 'Any idea what to do this evening?'],
  ['Thank you so much.', 'That was all I needed.', 'Bye.'],
  ['Hey, who am I talking to?', 'Are you connected to the internet?', 'Okay, see you.'],
  ['Can you help me?', 'I do not know yet. What are you good at?', 'Sounds good.'],
  ['Tell me about yourself.', 'Are you a robot?', 'Do you sleep?'],
];

const slots = {
  city: [
    'Oakland',
    'San Jose',
    'Berkeley',
    'Seattle',
    'Chicago',
    'New York',
    'Phoenix',
    'Los Angeles',
    'Fremont',
    'Portland',
  ],
  day: ['today', 'tomorrow', 'on Friday', 'next Monday', 'on the 5th of March', 'this weekend'],
  time: ['at 6 pm', 'at noon', 'at half past 7', 'at 8 in the evening'],
  food: ['Italian', 'Thai', 'Mexican', 'Chinese', 'vegetarian', 'seafood', 'Indian', 'sushi'],
  people: ['two', '3', 'four', '5'],
  genre: ['comedy', 'action', 'horror', 'romantic', 'science fiction', 'drama'],
  music: ['pop', 'rock', 'country', 'jazz', 'electronic'],
  event: ['a concert', 'a basketball game', 'a play', 'a baseball game'],
};
const talks = [
  [
    'I want to find a {food} restaurant in {city}.',
    'Do they have outdoor seating?',
    'Book a table for {people} {day} {time}.',
    'Yes, please.',
  ],
  [
    'Can you reserve a table for {people} {day}?',
    'Somewhere with {food} food in {city}.',
    '{time} please.',
    'That is correct.',
  ],
  [
    'I need a hotel in {city}.',
    'For {people} nights, starting {day}.',
    'How much is it per night?',
    'Book it, please.',
  ],
  [
    'Find me a flight from {city} to {city}.',
    'I leave {day}.',
    'Is it a direct flight?',
    'What does it cost?',
  ],
  ['What is the weather like in {city} {day}?', 'Will it rain?', 'And how windy is it?'],
  ['Play some {music} music.', 'Who is the singer?', 'Play it in the kitchen.'],
  [
    'I would like to watch a {genre} movie.',
    'Something in {city}.',
    'Buy {people} tickets for {day}.',
    'Yes, that works.',
  ],
  ['Is there {event} in {city} {day}?', 'Where does it take place?', 'I need {people} tickets.'],
  ['I want to rent a car in {city}.', 'Pick it up {day} {time}.', 'A small one is fine.', 'Sounds great.'],
  [
    'I am looking for a dentist in {city}.',
    'What is their phone number?',
    'Make an appointment {day} {time}.',
  ],
  ['Find a bus from {city} to {city} {day}.', '{people} tickets please.', 'Thanks, goodbye.'],
];

let state = 7;
/** Park and Miller's generator: the same conversations every time. */
const random = () => {
  state = (state * 48271) % 2147483647;
  return state / 2147483647;
};
const pick = (list) => list[Math.floor(random() * list.length)];
const filled = (text) => text.replace(/\{(\w+)\}/g, (_, slot) => pick(slots[slot]));

const count = Number(process.argv[2] ?? 150);
const engine = await createEngine({ model: join(root, 'models/demo-chat-8m') });
for (let i = 0; i < count; i++) {
  const turns = i < smallTalk.length ? smallTalk[i] : pick(talks).map(filled);
  const messages = [];
  for (const content of turns) {
    messages.push({ role: 'user', content });
    const { choices } = await engine.chat.completions.create({ messages, temperature: 0, max_tokens: 60 });
    messages.push({ role: 'assistant', content: choices[0].message.content.trim() });
  }
  process.stdout.write(`${JSON.stringify({ messages })}\n`);
}
process.exit(0); // the GPU's device keeps Node running
