import { models } from './panel-models';

/** The models that the panel offers, as options of a list. */
export function ModelOptions() {
  return (
    <>
      {models.value.map(({ url, name }) => (
        <option key={url} value={url}>
          {name}
        </option>
      ))}
    </>
  );
}
