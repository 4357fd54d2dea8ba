import { draft } from '../state/conversation';
import { isDemo, loadedModel } from '../state/model';

const firstPrompts = [
  'I want to find a restaurant in San Jose.',
  'What is the weather like in Chicago today?',
  'Can you play some rock music?',
  'I need a flight from Boston to Paris next Friday.',
];

/** The empty page: what this is, what the model can do, and something to begin with. */
export function Welcome({ onPick }: { readonly onPick: (text: string) => void }) {
  return (
    <section class="welcome">
      <h2>A language model in this tab</h2>
      {isDemo.value ? (
        <p>
          This demo has 8 million parameters, about a thousandth of a usual chat model. It knows restaurants,
          hotels, flights, weather, music, movies and events, and nothing else; what it says is made up.
        </p>
      ) : (
        <p>{loadedModel.value?.name} is loaded. It runs on your own graphics processor.</p>
      )}
      {isDemo.value && (
        <ul class="prompts" aria-label="Suggestions">
          {firstPrompts.map((text) => (
            <li key={text}>
              <button
                type="button"
                class="prompt"
                data-testid="suggestion"
                onClick={() => {
                  draft.value = text;
                  onPick(text);
                }}
              >
                {text}
              </button>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
