// What the labels of an answer mean, and what they do not protect from.

export interface Meaning {
  /** What the label is about. */
  about: "network" | "payer" | "upstream";
  /** In plain words. */
  plain: string;
  /** The better one of its pair. */
  better: boolean;
  text: string;
}

export const MEANINGS: Record<string, Meaning> = {
  oblivious: {
    about: "network",
    plain: "through a relay",
    better: true,
    text:
      "The request went sealed through a relay: the provider does not see this machine's address, the relay not what is " +
      "asked. It does not protect from the two telling each other, nor from somebody who watches both ends of the way.",
  },
  direct: {
    about: "network",
    plain: "straight to the provider",
    better: false,
    text: "The request went straight to the provider, which sees this machine's address and can tie all its requests together.",
  },
  pseudonym: {
    about: "payer",
    plain: "paid by an account of its own",
    better: true,
    text:
      "An account for this provider alone paid, so providers cannot compare payers. It does not hide on chain which wallet " +
      "put the money into that account, nor that the same account pays this provider each time.",
  },
  wallet: {
    about: "payer",
    plain: "paid by the wallet itself",
    better: false,
    text: "The wallet itself paid: every provider, and everybody who reads the chain, sees the same payer account.",
  },
  "own-engine": {
    about: "upstream",
    plain: "the provider's own engine",
    better: true,
    text:
      "The provider says that it computes the answer itself. Nobody has proved it, and the provider itself reads the " +
      "request and the answer.",
  },
  "third-party": {
    about: "upstream",
    plain: "somebody else's engine",
    better: false,
    text: "Somebody behind the provider computes the answer and reads along, or the provider does not say who does.",
  },
};

export const ABOUT: Record<Meaning["about"], string> = { network: "Network", payer: "Payer", upstream: "Upstream" };
