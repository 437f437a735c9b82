// What the labels of an answer mean, and what they do not protect from.

export interface Meaning {
  /** The better one of its pair. */
  better: boolean;
  text: string;
}

export const MEANINGS: Record<string, Meaning> = {
  direct: {
    better: false,
    text: "The request went straight to the provider, which sees this machine's address and can tie all its requests together.",
  },
  oblivious: {
    better: true,
    text:
      "The request went sealed through a relay: the provider does not see this machine's address, the relay not what is " +
      "asked. It does not protect from the two telling each other, nor from somebody who watches both ends of the way.",
  },
  wallet: {
    better: false,
    text: "The wallet itself paid: every provider, and everybody who reads the chain, sees the same payer account.",
  },
  pseudonym: {
    better: true,
    text:
      "An account for this provider alone paid, so providers cannot compare payers. It does not hide on chain which wallet " +
      "put the money into that account, nor that the same account pays this provider each time.",
  },
  "own-engine": {
    better: true,
    text:
      "The provider says that it computes the answer itself. Nobody has proved it, and the provider itself reads the " +
      "request and the answer.",
  },
  "third-party": {
    better: false,
    text: "Somebody behind the provider computes the answer and reads along, or the provider does not say who does.",
  },
};
