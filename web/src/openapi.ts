// Made by types.mjs from crates/lethe/openapi.json, SHA-256 89ba918709bc4d9e7eba85037405e66b14d57b1356abf00f7bcb91f08984c00a. Not to be edited.

export interface components {
    schemas: {
        /** @description In base units of its token; a MOR has 10^18. */
        Amount: string;
        /** @description What is proved about an answer's privacy. */
        Labels: {
            /** @enum {unknown} */
            network: "direct" | "oblivious";
            /** @enum {unknown} */
            payer: "wallet" | "pseudonym";
            /** @enum {unknown} */
            upstream: "own-engine" | "third-party";
        };
        /** @description Which providers, in OpenRouter's words: docs/protocol/routing.md. Unknown fields are refused. */
        Preferences: Record<string, never> | null;
        ChatMessage: {
            /** @enum {unknown} */
            role: "system" | "developer" | "user" | "assistant" | "tool" | "function";
            /** @description A string, or parts. An assistant's message may have none. */
            content: string | {
                /** @constant */
                type: "text";
                text: string;
            }[] | null;
            name?: string | null;
            tool_call_id?: string | null;
            tool_calls?: components["schemas"]["ToolCall"][] | null;
        };
        ToolCall: {
            id: string;
            type?: string;
            function: {
                name: string;
                /** @description JSON. */
                arguments: string;
            };
        };
        Tool: {
            /** @constant */
            type: "function";
            function: {
                name: string;
                description?: string;
                /** @description A JSON schema. */
                parameters?: Record<string, never>;
            };
        };
        ChatRequest: {
            /** @description As `/v1/models` lists them. Suffixes and cards: docs/protocol/routing.md. */
            model: string;
            messages: components["schemas"]["ChatMessage"][];
            stream?: boolean | null;
            stream_options?: {
                include_usage?: boolean | null;
            } | null;
            max_tokens?: number | null;
            /** @description The newer name of `max_tokens`, and before it. */
            max_completion_tokens?: number | null;
            temperature?: number | null;
            top_p?: number | null;
            presence_penalty?: number | null;
            frequency_penalty?: number | null;
            /** @description One answer. */
            n?: number | null;
            seed?: number | null;
            stop?: string | string[] | null;
            logprobs?: boolean | null;
            top_logprobs?: number | null;
            logit_bias?: Record<string, never> | null;
            parallel_tool_calls?: boolean | null;
            user?: string | null;
            tools?: components["schemas"]["Tool"][] | null;
            tool_choice?: ("none" | "auto" | "required") | Record<string, never> | null;
            response_format?: {
                /** @enum {unknown} */
                type: "text" | "json_object" | "json_schema";
                json_schema?: Record<string, never>;
            } | null;
            provider?: components["schemas"]["Preferences"];
            /** @description Others, asked in this order where nobody sells `model`. */
            models?: string[] | null;
        };
        Usage: {
            prompt_tokens: number;
            completion_tokens: number;
            total_tokens?: number;
        };
        /** @description What an answer was and cost. Where several providers had a part in it: all parts together, but for what costs whose receipt is missing. */
        Cost: {
            request: string;
            /** @description Its account. */
            provider: string;
            /** @description What it is paid in. */
            token: string;
            input_tokens: number;
            output_tokens: number;
            cost: components["schemas"]["Amount"];
            /** @description As the provider signed it. */
            outcome: string;
            /** @description From the request to the first piece. */
            ttft_ms: number;
            duration_ms: number;
            /** @description Microseconds for a token, as they came in from the provider. Null: of so little that it says nothing, of several parts, or the wire was paced. */
            token_us: number | null;
            labels: components["schemas"]["Labels"];
            /** @description Where several providers had a part in it: all of them, in their order. */
            parts?: {
                request: string;
                provider: components["schemas"]["Address"];
                /** @description Tokens of its request, as billed; one that goes on reads what was said before. Null while its receipt is missing. */
                input_tokens: number | null;
                /** @description Tokens that it delivered. */
                output_tokens: number;
                /** @description Null while its receipt is missing. */
                cost: components["schemas"]["Amount"] | null;
            }[];
        };
        ChatCompletion: {
            id: string;
            /** @constant */
            object: "chat.completion";
            created?: number;
            model: string;
            choices: {
                /** @constant */
                index: 0;
                message: {
                    role: string;
                    content: string | null;
                    tool_calls?: components["schemas"]["ToolCall"][];
                };
                finish_reason: string | null;
            }[];
            usage?: components["schemas"]["Usage"];
            lethe: components["schemas"]["Cost"];
        };
        EmbeddingsRequest: {
            model: string;
            input: string | string[];
            /** @enum {unknown} */
            encoding_format?: "float" | "base64" | null;
            dimensions?: number | null;
            user?: string | null;
            provider?: components["schemas"]["Preferences"];
        };
        Embeddings: {
            /** @constant */
            object: "list";
            data: {
                /** @constant */
                object: "embedding";
                index: number;
                embedding: number[] | string;
            }[];
            model: string;
            usage: {
                prompt_tokens: number;
                total_tokens: number;
            };
            lethe: components["schemas"]["Cost"];
        };
        CompletionRequest: {
            model: string;
            prompt: string | string[];
            stream?: boolean | null;
            max_tokens?: number | null;
            temperature?: number | null;
            top_p?: number | null;
            presence_penalty?: number | null;
            frequency_penalty?: number | null;
            seed?: number | null;
            stop?: string | string[] | null;
            n?: number | null;
            provider?: components["schemas"]["Preferences"];
            models?: string[] | null;
        };
        Completion: {
            id: string;
            /** @constant */
            object: "text_completion";
            created: number;
            model: string;
            choices: {
                text: string;
                /** @constant */
                index: 0;
                logprobs?: null;
                finish_reason: string;
            }[];
            usage: components["schemas"]["Usage"];
            lethe: components["schemas"]["Cost"];
        };
        ResponseRequest: {
            model: string;
            /** @description A string, or the whole conversation: messages, `function_call`, `function_call_output`. */
            input: string | {
                /** @constant */
                type?: "message";
                /** @enum {unknown} */
                role: "user" | "assistant" | "system" | "developer";
                content: string;
            }[];
            instructions?: string | null;
            stream?: boolean | null;
            max_output_tokens?: number | null;
            temperature?: number | null;
            top_p?: number | null;
            /**
             * @description Nothing is stored.
             * @enum {unknown}
             */
            store?: false | null;
            tools?: {
                /** @constant */
                type: "function";
                name: string;
                description?: string;
                parameters?: Record<string, never>;
            }[] | null;
            provider?: components["schemas"]["Preferences"];
            models?: string[] | null;
        };
        Response: {
            id: string;
            /** @constant */
            object: "response";
            created_at: number;
            /** @enum {unknown} */
            status: "completed" | "incomplete";
            model: string;
            output: Record<string, never>[];
            /** @constant */
            store?: false;
            usage: {
                input_tokens: number;
                output_tokens: number;
                total_tokens: number;
            };
            lethe: components["schemas"]["Cost"];
        };
        Model: {
            /** @description What a request's `model` says. */
            id: string;
            /** @constant */
            object: "model";
            created: number;
            owned_by: string;
            /**
             * @description What it is for.
             * @enum {unknown}
             */
            kind: "chat" | "embeddings";
            /** @description What goes in and comes out, if its card says so. */
            architecture?: {
                modality: string;
                input_modalities: string[];
                output_modalities: string[];
            };
            /** @description Whether somebody who sells it can be reached. */
            live: boolean;
            /** @description Those who can be. */
            providers: number;
            /** @description What exactly it is, by its providers' word. */
            card?: Record<string, never>;
            card_id?: string;
            /** @description Of the cheapest offer, for 10^6 tokens. */
            pricing?: {
                token: string;
                input_per_million: components["schemas"]["Amount"];
                output_per_million: components["schemas"]["Amount"];
                /** @description The same in millionths of a dollar; absent where nobody says what the token is worth. */
                micro_usd?: {
                    input_per_million: components["schemas"]["Amount"];
                    output_per_million: components["schemas"]["Amount"];
                    /** @description Whose word the rate is. */
                    source: string;
                    /** @description When that was said, in Unix seconds; absent if it is fixed. */
                    at?: number;
                };
            };
            labels?: components["schemas"]["Labels"];
            context_length?: number | null;
            max_output_tokens?: number | null;
            supported_parameters?: string[];
        };
        ModelList: {
            /** @constant */
            object: "list";
            data: components["schemas"]["Model"][];
        };
        AnthropicModelList: {
            data: {
                /** @constant */
                type: "model";
                id: string;
                display_name: string;
                created_at: string;
            }[];
            /** @constant */
            has_more: false;
            first_id?: string | null;
            last_id?: string | null;
        };
        AnthropicMessage: {
            /** @enum {unknown} */
            role: "user" | "assistant";
            content: string | {
                /** @constant */
                type: "text";
                text: string;
            }[];
        };
        CountRequest: {
            model: string;
            messages: components["schemas"]["AnthropicMessage"][];
            system?: string;
            tools?: {
                name: string;
                description?: string;
                input_schema: Record<string, never>;
            }[];
        };
        MessageRequest: components["schemas"]["CountRequest"] & {
            max_tokens: number;
            stream?: boolean;
            temperature?: number;
            top_p?: number;
            stop_sequences?: string[];
            provider?: components["schemas"]["Preferences"];
        };
        Message: {
            id: string;
            /** @constant */
            type: "message";
            /** @constant */
            role: "assistant";
            model: string;
            content: Record<string, never>[];
            stop_reason: string;
            stop_sequence?: string | null;
            usage: {
                input_tokens: number;
                output_tokens: number;
            };
            lethe?: components["schemas"]["Cost"];
        };
        OllamaOptions: {
            temperature?: number | null;
            top_p?: number | null;
            min_p?: number | null;
            top_k?: number | null;
            seed?: number | null;
            /** @description Less than 1: no limit. */
            num_predict?: number | null;
            stop?: string | string[] | null;
        };
        OllamaChatRequest: {
            /** @description As `/api/tags` lists them. */
            model: string;
            /** @description None: the model is "loaded", which costs nothing. */
            messages?: {
                /** @enum {unknown} */
                role: "system" | "user" | "assistant";
                content: string;
            }[];
            /**
             * @description Unless it is false, lines.
             * @default true
             */
            stream: boolean;
            options?: components["schemas"]["OllamaOptions"];
            /** @enum {unknown} */
            think?: true | false | "low" | "medium" | "high";
            format?: "json" | Record<string, never>;
            provider?: components["schemas"]["Preferences"];
        };
        OllamaGenerateRequest: {
            model: string;
            /** @description None: the model is "loaded", which costs nothing. */
            prompt?: string;
            system?: string;
            /**
             * @description Unless it is false, lines.
             * @default true
             */
            stream: boolean;
            options?: components["schemas"]["OllamaOptions"];
            provider?: components["schemas"]["Preferences"];
        };
        OllamaAnswer: {
            model: string;
            created_at: string;
            /** @constant */
            done: true;
            done_reason: string;
            message?: {
                /** @constant */
                role: "assistant";
                content: string;
                thinking?: string;
                tool_calls?: Record<string, never>[];
            };
            response?: string;
            total_duration?: number;
            prompt_eval_count?: number;
            eval_count?: number;
            lethe?: components["schemas"]["Cost"];
        };
        OllamaEmbedRequest: {
            model: string;
            input?: string | string[] | null;
            /** @description Passed on; the node's own engine heeds it. */
            truncate?: boolean | null;
            dimensions?: number | null;
            provider?: components["schemas"]["Preferences"];
        };
        OllamaEmbeddings: {
            model: string;
            embeddings: number[][];
            total_duration?: number;
            /** @constant */
            load_duration?: 0;
            prompt_eval_count?: number;
            lethe?: components["schemas"]["Cost"];
        };
        OllamaEmbeddingRequest: {
            model: string;
            prompt?: string | null;
            provider?: components["schemas"]["Preferences"];
        };
        OllamaEmbedding: {
            embedding: number[];
            lethe?: components["schemas"]["Cost"];
        };
        OllamaModel: {
            name: string;
            model: string;
            modified_at: string;
            /** @constant */
            size: 0;
            digest: string;
            details: Record<string, never>;
            capabilities?: ("completion" | "embedding")[];
        };
        OllamaShown: {
            details: Record<string, never>;
            model_info: Record<string, never>;
            capabilities: string[];
            modified_at?: string;
        };
        OpenAiError: {
            error: {
                /** @description What is wrong, and what to do. */
                message: string;
                /** @enum {unknown} */
                type: "invalid_request_error" | "authentication_error" | "permission_error" | "rate_limit_error" | "insufficient_quota" | "server_error";
                param: string | null;
                code: string;
            };
        };
        AnthropicError: {
            /** @constant */
            type: "error";
            error: {
                /** @enum {unknown} */
                type: "invalid_request_error" | "authentication_error" | "billing_error" | "permission_error" | "not_found_error" | "request_too_large" | "rate_limit_error" | "api_error" | "overloaded_error";
                message: string;
                code?: string | null;
            };
        };
        OllamaError: {
            error: string;
            code?: string | null;
        };
        NodeError: {
            error: {
                /** @description What is wrong, and what to do. */
                message: string;
                type: string;
            };
        };
        /** @description An account or a contract of the chain, as `0x` and 40 hexadecimal digits. */
        Address: string;
        /** @description 32 bytes, as `0x` and 64 hexadecimal digits. */
        Hash: string;
        /** @description The chain's own coins, in 10^-18 of one, in hexadecimals. */
        Wei: string;
        /** @description A moment, in seconds since 1970. */
        Seconds: number;
        /** @description What tokens cost. */
        Rates: {
            /** @description Of 10^6 tokens of the request. */
            input_per_million: components["schemas"]["Amount"];
            /** @description Of 10^6 tokens of the answer. */
            output_per_million: components["schemas"]["Amount"];
        };
        /** @description What a token is worth. Only to be read: nothing that is paid follows from it. */
        UsdRate: {
            token: components["schemas"]["Address"];
            /** @description Of the token: digits after the point. */
            decimals: number;
            /** @description What a whole token is worth, in millionths of a dollar. */
            micro_usd: number;
            /** @description By whose word. */
            source: string;
            /** @description When that was said; left out where it is fixed. */
            at?: components["schemas"]["Seconds"];
        };
        /** @description A token as the node knows it. */
        Token: {
            address: components["schemas"]["Address"];
            /** @description What it is called. */
            symbol: string;
            /** @description Digits after the point: a whole token has 10^decimals base units. */
            decimals: number;
            /** @description Left out where nobody said what it is worth. */
            usd?: components["schemas"]["UsdRate"];
        };
        /** @description What exactly is behind a name, by its provider's word. */
        Card: {
            /** @description Where the weights are published, as `owner/name`. */
            repo: string;
            /** @description Which state of it: a commit, a tag. */
            revision?: string;
            /** @description SHA-256 of the file of the weights; of several files, of the list of their digests. */
            weights?: components["schemas"]["Hash"];
            /** @description The precision of the weights, as `int8`, `fp8` or `Q4_K_M`. */
            quantization?: string;
            /** @description Tokens that the model was made for. */
            context_length?: number;
            /** @description What goes in and comes out, as `text` or `text+image->text`. */
            modality?: string;
            /** @description SHA-256 of the chat template's text. */
            template?: components["schemas"]["Hash"];
        };
        /** @description A part of the node. */
        Part: {
            name: string;
            /** @description `chain` or `embedded chain`, `APIs of OpenAI, Anthropic and Ollama`, `provider` or `relay`. */
            kind: string;
            running: boolean;
            /** @description What it does just now, or what is wrong with it. */
            detail: string;
        };
        /** @description What one provider sells under a name. */
        Offer: {
            /** @description Whose: its account, or that of one of its hosts. */
            provider: components["schemas"]["Address"];
            /** @description The registered account, which has the stake and is paid. */
            registered: components["schemas"]["Address"];
            /** @description Where its descriptor is. */
            endpoint: string;
            /** @description What it is paid in. */
            token: components["schemas"]["Address"];
            rates: components["schemas"]["Rates"];
            /** @description Tokens that fit. */
            context_length: number | null;
            /** @description The longest answer sold, in tokens. */
            output_tokens_max: number | null;
            /** @description What would be proved about the privacy of an answer. */
            labels: components["schemas"]["Labels"];
            /** @description What tells its card from others; null: it says nothing of what exactly is behind the name. */
            card: string | null;
            /** @description Fields of a request that it declares to heed. */
            parameters: string[];
            /** @description `own-engine` or `third-party`, as it declares; null: it does not. */
            upstream: string | null;
            /** @description Its descriptor is fresh and it did not fail lately. */
            live: boolean;
            /** @description It says itself that it takes no request now. */
            full: boolean;
            /** @description Median time to the first token of late, in milliseconds; null: it was not used. */
            ttft_ms: number | null;
            /** @description Requests that it answers for this node now. */
            running: number;
            /** @description Why it is not live. */
            problem: string | null;
        };
        /** @description A relay: registered, and without a bid. */
        RegisteredRelay: {
            address: components["schemas"]["Address"];
            /** @description `host:port`, where it says what it is; who waits at a relay names it so. */
            endpoint: string;
        };
        /** @description A model on offer. */
        MarketModel: {
            /** @description What a request's `model` says. */
            name: string;
            /** @description Its ids in the registry; several if the name was registered more than once. */
            ids: components["schemas"]["Hash"][];
            /** @description When the first offer was seen. */
            seen_at: components["schemas"]["Seconds"];
            /** @description Null: nobody says what exactly it is. */
            card: components["schemas"]["Card"] | null;
            /** @description Other names on offer that this one may be taken for. */
            look_alike_of: string[];
            /** @description Those with the card first, of them the live ones, cheapest first. */
            offers: components["schemas"]["Offer"][];
        };
        /** @description A past answer: what it was and cost, nothing of what it said. */
        Answer: {
            /** @description The request's id. */
            request: string;
            /** @description The name it was asked by. */
            model: string;
            /** @description Who answered. */
            provider: components["schemas"]["Address"];
            /** @description When it ended. */
            at: components["schemas"]["Seconds"];
            /** @description Tokens of the request, as billed. */
            input_tokens: number;
            /** @description Tokens of the answer, as billed. */
            output_tokens: number;
            cost: components["schemas"]["Amount"];
            /** @description What it was paid in. */
            token: components["schemas"]["Address"];
            /**
             * @description As the provider signed it; null: no receipt came.
             * @enum {string|null}
             */
            outcome: "complete" | "cancelled" | "failed" | null;
            /** @description From the request to the first piece, in milliseconds. */
            ttft_ms: number;
            /** @description From the request to the end, in milliseconds. */
            duration_ms: number;
            /** @description Microseconds for a token, as they came in from the provider. Null: of so little that it says nothing, the wire was paced, or of versions that did not measure it. */
            token_us: number | null;
            /** @description Null for answers of versions that had none. */
            labels: components["schemas"]["Labels"] | null;
            /** @description Under which id `/api/routes/{id}` says why it came from there; null for answers of versions that had none. */
            route: string | null;
        };
        /** @description A place that holds some of a token. */
        Place: {
            /** @description What the place is. */
            label: string;
            /** @description What it is there for, and how it gets out. */
            detail: string;
            /** @enum {string} */
            kind: "wallet" | "escrow" | "earned" | "stake" | "treasury";
            amount: components["schemas"]["Amount"];
            /** @description Since when it waits there. */
            since?: components["schemas"]["Seconds"];
            /** @description From when on it can be had. */
            unlocks_at?: components["schemas"]["Seconds"];
            /** @description What moves it; the node has to be stopped first. */
            command?: string;
            /** @description The same without Lethe. */
            cast?: string;
        };
        /** @description All places that hold some of one token. */
        Holding: {
            token: components["schemas"]["Token"];
            /** @description All there is of it. */
            supply: components["schemas"]["Amount"];
            /** @description What the places hold. */
            sum: components["schemas"]["Amount"];
            places: components["schemas"]["Place"][];
        };
        /** @description Where each unit of money is. */
        Money: {
            /**
             * @description `market`: all money there is; `own`: what this node's folder holds.
             * @enum {string}
             */
            scope: "market" | "own";
            /** @description All MOR there is. */
            supply: components["schemas"]["Amount"];
            /** @description The MOR in these places. */
            sum: components["schemas"]["Amount"];
            /** @description Places, chain and books agree, for each token. */
            complete: boolean;
            /** @description Where they do not: which account, and how much. */
            problems?: string[];
            /** @description What is wrong around the node, as a clock that is off. */
            warnings?: string[];
            /** @description Those that hold MOR. */
            places: components["schemas"]["Place"][];
            /** @description The same of each other token of which there is some. */
            others?: components["schemas"]["Holding"][];
            /** @description What moves money by itself, in words. */
            policies: string[];
            /** @description MOR. */
            token: components["schemas"]["Token"];
        };
        /** @description A wish to withdraw that waits for its delay. */
        Withdrawal: {
            amount: components["schemas"]["Amount"];
            /** @description When it was asked for. */
            initiated_at: components["schemas"]["Seconds"];
        };
        /** @description Everything that makes a channel. */
        ChannelConfig: {
            /** @description Whose money it is. */
            payer: components["schemas"]["Address"];
            /** @description Whose signature on a voucher counts. */
            payer_authorizer: components["schemas"]["Address"];
            /** @description Who is paid. */
            receiver: components["schemas"]["Address"];
            /** @description Who may claim and refund for the receiver. */
            receiver_authorizer: components["schemas"]["Address"];
            /** @description What is paid in. */
            token: components["schemas"]["Address"];
            /** @description Seconds between the wish to withdraw and the withdrawal. */
            withdraw_delay_s: number;
            /** @description Tells channels between the same parties apart. */
            salt: components["schemas"]["Hash"];
        };
        /** @description A channel as this node knows it that pays. */
        Channel: {
            id: components["schemas"]["Hash"];
            config: components["schemas"]["ChannelConfig"];
            /** @description Paid in, less what was taken back. */
            escrow: components["schemas"]["Amount"];
            /** @description Of that, claimed by the provider. */
            claimed: components["schemas"]["Amount"];
            /** @description Signed away at most. */
            ceiling: components["schemas"]["Amount"];
            /** @description Billed by receipts. */
            charged: components["schemas"]["Amount"];
            /** @description Receipts are complete up to this number. */
            receipts: number;
            withdrawal: components["schemas"]["Withdrawal"] | null;
        };
        /** @description How a token flows, from the wallet to those who earn it. */
        TokenFlows: {
            /** @description Which. */
            token: components["schemas"]["Address"];
            /** @description What all is paid from. */
            wallet: {
                account: components["schemas"]["Address"];
                held: components["schemas"]["Amount"];
            };
            /** @description Accounts that pay one provider each. */
            accounts: {
                account: components["schemas"]["Address"];
                held: components["schemas"]["Amount"];
                /** @description The only one that it pays. */
                provider: components["schemas"]["Address"];
            }[];
            channels: components["schemas"]["Channel"][];
        };
        /** @description How MOR flows, from the wallet to those who earn it. */
        Flows: {
            /** @description Which. */
            token: components["schemas"]["Address"];
            /** @description What all is paid from. */
            wallet: {
                account: components["schemas"]["Address"];
                held: components["schemas"]["Amount"];
            };
            /** @description Accounts that pay one provider each. */
            accounts: {
                account: components["schemas"]["Address"];
                held: components["schemas"]["Amount"];
                /** @description The only one that it pays. */
                provider: components["schemas"]["Address"];
            }[];
            channels: components["schemas"]["Channel"][];
            /** @description The same of each other token of which there is some. */
            others: components["schemas"]["TokenFlows"][];
        };
        /** @description What a seller claimed and was paid in a token. */
        Paid: {
            /** @description Which. */
            token: components["schemas"]["Address"];
            /** @description What was claimed. */
            claimed: components["schemas"]["Amount"];
            /** @description Of that, paid out. */
            settled: components["schemas"]["Amount"];
        };
        /** @description What a provider of this node sells. */
        SellerOffer: {
            /** @description Its id in the registry. */
            model: components["schemas"]["Hash"];
            /** @description Of the model. */
            name: string;
            /** @description What it is paid in. */
            token: components["schemas"]["Address"];
            rates: components["schemas"]["Rates"];
            /** @description When the current prices end. */
            quote_expires_at: components["schemas"]["Seconds"];
            /** @description Answers at a time. */
            slots: number;
            /** @description Answers that run. */
            running: number;
            /** @description Requests that wait. */
            queued: number;
            /** @description Why its backend is not well; null: it is. */
            problem: string | null;
        };
        /** @description A provider's money in one token. */
        Earnings: {
            token: components["schemas"]["Address"];
            /** @description By all receipts together. */
            earned: components["schemas"]["Amount"];
            /** @description Of that, what could be claimed now. */
            claimable: components["schemas"]["Amount"];
            /** @description Of that, what was claimed. */
            claimed: components["schemas"]["Amount"];
        };
        /** @description What a provider counted since it started. */
        Counted: {
            /** @description Answers that began. */
            begun: number;
            /** @description Of these, that came to their end. */
            completed: number;
            /** @description That the buyer left, or did not pay on. */
            cancelled: number;
            /** @description That the backend or the provider broke off. */
            failed: number;
            /** @description Tokens of requests, as billed. */
            input_tokens: number;
            /** @description Tokens of answers, as billed. */
            output_tokens: number;
            /** @description Requests refused because all places were taken. */
            refused_busy: number;
            /** @description Refused because of voucher, channel or quote. */
            refused_payment: number;
            /** @description Refused for any other reason. */
            refused_other: number;
            /** @description Times that an answer had to wait for a voucher. */
            waits_for_payment: number;
            /** @description Streams that were no sealed request, or that could not be opened. */
            unopened: number;
        };
        /** @description A provider of this node. */
        Seller: {
            name: string;
            /** @description The provider's account. */
            provider: components["schemas"]["Address"];
            /** @description What signs and claims here: the provider's account, or its host's. */
            account: components["schemas"]["Address"];
            /** @description In the registry. */
            endpoint: string;
            /** @description The relays that it waits at, if it cannot be dialled. */
            behind: {
                /** @description Its endpoint in the registry. */
                relay: string;
                /** @description It takes the provider now. */
                reached: boolean;
            }[];
            /** @description Nothing is on offer for now, by its own wish. */
            resting: boolean;
            offers: components["schemas"]["SellerOffer"][];
            /** @description What was earned, per token. */
            money: components["schemas"]["Earnings"][];
            /** @description Channels that it knows. */
            channels: number;
            counted: components["schemas"]["Counted"];
            /** @description On chain, over all channels, token by token. */
            paid: components["schemas"]["Paid"][];
        };
        /** @description What the dashboard shows. */
        State: {
            /** @description Of the node. */
            version: string;
            /** @description Its chain is of this machine, and its money worth nothing. */
            demonstration: boolean;
            /** @description Where clients ask. */
            base_url: string;
            chain: {
                id: number;
                network: string;
                /** @description The latest; 0 while the chain does not answer. */
                block: number;
                /** @description Of the server that is asked. */
                rpc_url: string;
                /** @description Contracts and accounts that have names, by address. */
                known: {
                    [key: string]: string;
                };
            };
            /** @description MOR. */
            token: {
                symbol: string;
                /** @description Digits after the point. */
                decimals: number;
                address: components["schemas"]["Address"];
            };
            /** @description All that the node deals in, MOR first. */
            tokens: components["schemas"]["Token"][];
            parts: components["schemas"]["Part"][];
            /** @description Providers and relays of this machine, by address. */
            names: {
                [key: string]: string;
            };
            models: components["schemas"]["MarketModel"][];
            /** @description Relays of the registry: the first hundred, where there are more. */
            relays: components["schemas"]["RegisteredRelay"][];
            /** @description The last ones, newest first. */
            answers: components["schemas"]["Answer"][];
            /** @description Null while the chain does not answer. */
            money: components["schemas"]["Money"] | null;
            /** @description Null while the chain does not answer. */
            flows: components["schemas"]["Flows"] | null;
            /** @description Providers of this node. */
            sellers: components["schemas"]["Seller"][];
            /** @description What crossed the node's own UDP sockets. */
            wire: {
                bytes_sent: number;
                bytes_received: number;
            };
            /** @description What `/api/faucet` gives; null where money may be worth something. */
            faucet: components["schemas"]["Gift"] | null;
            /** @description What the node may put into channels. */
            budget: components["schemas"]["Funding"] & {
                /** @description The same of the other tokens that are paid with. */
                others: components["schemas"]["Funding"][];
                /** @description What is not spent comes back so many seconds after it is asked for. */
                delay_s: number;
                /** @description A second provider has a deposit, too. */
                standby: boolean;
            };
            /** @description The flag by which a command finds the node's folder; empty for the usual one. */
            data: string;
            /** @description The same, and its chain. */
            flags: string;
            /** @description What all is paid from. */
            wallet: components["schemas"]["Address"];
            /** @description What brings the wallet's key back when the node's disk is lost. */
            kept: {
                /** @description Keys of the node's folder follow from words; without `file` the wallet's, too. */
                words: boolean;
                /** @description The wallet's key is in this file and follows from no words. */
                file?: string;
            };
        };
        /** @description A line `data: `, with a State as JSON behind it, and an empty line. */
        StateEvent: string;
        /** @description What `/api/state` tells at the local address of a node that only sells, relays or watches. */
        RoleState: {
            /** @description Of the node. */
            version: string;
            /** @description All that it deals in, MOR first. */
            tokens: components["schemas"]["Token"][];
            models: components["schemas"]["MarketModel"][];
            answers: components["schemas"]["Answer"][];
            sellers: {
                name: string;
                /** @description The provider's account. */
                provider: components["schemas"]["Address"];
                /** @description What signs and claims here: the provider's account, or its host's. */
                account: components["schemas"]["Address"];
                /** @description In the registry. */
                endpoint: string;
                /** @description The relays that it waits at, if it cannot be dialled. */
                behind: {
                    /** @description Its endpoint in the registry. */
                    relay: string;
                    /** @description It takes the provider now. */
                    reached: boolean;
                }[];
                /** @description Nothing is on offer for now, by its own wish. */
                resting: boolean;
                offers: components["schemas"]["SellerOffer"][];
                /** @description What was earned, per token. */
                money: components["schemas"]["Earnings"][];
                /** @description Channels that it knows. */
                channels: number;
                counted: components["schemas"]["Counted"];
            }[];
        };
        /** @description Why an offer does not fit a request, with the figures that belong to the reason. */
        Misfit: {
            /** @enum {string} */
            reason: "unreachable" | "other-token" | "quote-expired" | "not-sold" | "ignored" | "not-among-only" | "label" | "price" | "quantization" | "parameter" | "answer-too-long" | "request-too-long" | "failed" | "full" | "cardless" | "busy";
            /** @description The label that is demanded. */
            demanded?: string;
            /** @description The label, or the precision, that it has. */
            offered?: string;
            /** @description What it asks. */
            price?: components["schemas"]["Amount"];
            /** @description What is allowed. */
            cap?: components["schemas"]["Amount"];
            /** @description The field of the request that it does not declare to heed. */
            parameter?: string;
            /** @description Tokens asked for. */
            asked?: number;
            /** @description Tokens that it sells, or that fit. */
            limit?: number;
            /** @description Tokens of the request, as estimated. */
            estimate?: number;
            /** @description Failures in a row. */
            times?: number;
            /** @description Until it is asked again, in milliseconds. */
            wait_ms?: number;
        };
        /** @description Every term of a cost, in 10^-18 of the route's `unit`. */
        Terms: {
            /** @description To the first token, without the way, in microseconds. */
            wait_us: number;
            /** @description Requests that it answers for this node; the wait counts once more for each. */
            running: number;
            /** @description Waiting time that it tells of itself, as far as that counts, in microseconds. */
            told_us: number;
            /** @description There and back, in microseconds. */
            trip_us: number;
            /** @description For each token of the answer, in microseconds. */
            token_us: number;
            /** @description Tokens that the answer is reckoned at. */
            output_tokens: number;
            /** @description All of that time, at what a second is worth. */
            time: components["schemas"]["Amount"];
            /** @description As quoted, for the estimated tokens. */
            price: components["schemas"]["Amount"];
            /** @description How often it will at least answer, in thousandths. */
            quality_permille: number;
            /** @description What is expected to be lost by its failures. */
            risk: components["schemas"]["Amount"];
            /** @description It answered before in this conversation: three tenths count. */
            sticky: boolean;
            /** @description All together. */
            total: components["schemas"]["Amount"];
        };
        /** @description An offer in its place in the list. */
        Ranked: {
            provider: components["schemas"]["Address"];
            /** @description What exactly it offers; null: it does not say. */
            card: string | null;
            /**
             * @description How it came to be looked at.
             * @enum {string}
             */
            drawn: "named" | "conversation" | "good" | "chance" | "explored" | "listed";
            /** @description Whether it fits; a last resort is asked only where nobody better is left. */
            standing: "fits" | {
                "last-resort": components["schemas"]["Misfit"];
            };
            terms: components["schemas"]["Terms"];
        };
        /** @description An offer that must not be asked. */
        Unfit: components["schemas"]["Misfit"] & {
            provider: components["schemas"]["Address"];
        };
        /** @description The choice among the offers of one model. */
        Choice: {
            model: string;
            /** @description Why the first is first. */
            reason: string;
            /** @description By which rule; a node follows `cost`. */
            rule: ("cost" | "morpheus" | "random") | {
                "round-robin": {
                    turn: number;
                };
            };
            /** @description How many there are. */
            offers: number;
            /** @description In the order in which they are asked. */
            ranked: components["schemas"]["Ranked"][];
            unfit: components["schemas"]["Unfit"][];
            /** @description Of those, how many are not listed. */
            more_unfit: number;
        };
        /** @description A provider that was asked. */
        Asked: {
            provider: components["schemas"]["Address"];
            /**
             * @description `next`: those before brought nothing; `beside`: the one before was slow to begin.
             * @enum {string}
             */
            turn: "first" | "next" | "beside";
            /** @description From the request to its being asked, in milliseconds. */
            after_ms: number;
            /**
             * @description What came of it.
             * @enum {string}
             */
            ending: "answered" | "overtaken" | "lost" | "busy" | "failed" | "refused";
            /** @description What went wrong. */
            problem?: string;
        };
        /** @description One of several nodes of a provider. */
        Host: {
            /** @description What `provider` is elsewhere in a route. */
            account: components["schemas"]["Address"];
            /** @description The registered provider. */
            provider: components["schemas"]["Address"];
            /** @description Where its descriptor is. */
            endpoint: string;
        };
        /** @description Why a request went, or would go, where it does. */
        Route: {
            /** @description Null where it was only asked what would be chosen. */
            id: string | null;
            at: components["schemas"]["Seconds"];
            /** @description The route of the answer that was lost, where this one goes on with it. */
            resumes: string | null;
            /** @description One for each model that the request names. */
            choices: components["schemas"]["Choice"][];
            /** @description In their order. */
            asked: components["schemas"]["Asked"][];
            /** @description Who of them are hosts of a provider that has several; left out where none is. */
            hosts?: components["schemas"]["Host"][];
            /** @description What has to be said of the name beside that: several cards, look-alikes. */
            notes?: string[];
            /** @description The token that costs are compared in; null: the node pays in several that nobody rated. */
            unit: components["schemas"]["Token"] | null;
        };
        /** @description What the faucet gives. */
        Gift: {
            /** @description In wei. */
            coins: string;
            mor: components["schemas"]["Amount"];
            /** @description Of the chain's dollar, in its base units. */
            usd: components["schemas"]["Amount"];
            /** @description An account gets one in so many seconds. */
            every_s: number;
        };
        /** @description A transaction in one line. */
        TransactionLine: {
            hash: components["schemas"]["Hash"];
            /** @description The block that it is in; null: it waits. */
            block: number | null;
            /** @description Who sent it. */
            from: components["schemas"]["Address"];
            /** @description To whom; null: it creates a contract. */
            to: components["schemas"]["Address"] | null;
            /** @description Coins that went along. */
            value: components["schemas"]["Wei"];
            /** @description What was called, as `contract.function`. */
            call: string | null;
            /** @description That a token of the network's profile was asked for. */
            transfer: components["schemas"]["Transfer"] | null;
        };
        /** @description So much of a token from one account to another. */
        Transfer: {
            token: components["schemas"]["Token"];
            from: components["schemas"]["Address"];
            to: components["schemas"]["Address"];
            amount: components["schemas"]["Amount"];
        };
        /** @description A transfer that was done. */
        TransferLine: components["schemas"]["Transfer"] & {
            /** @description That it came of. */
            transaction: components["schemas"]["Hash"] | null;
            /** @description Of that transaction. */
            block: number | null;
        };
        Block: {
            number: number;
            hash: components["schemas"]["Hash"];
            /** @description Of the block before. */
            parent: components["schemas"]["Hash"];
            /** @description When it was made. */
            at: components["schemas"]["Seconds"];
            gas_used: number;
            /** @description Gas that it has room for. */
            gas_limit: number;
            /** @description What gas cost at least, in wei. */
            base_fee: number;
            /** @description The first of them. */
            transactions: components["schemas"]["TransactionLine"][];
            /** @description How many there are further. */
            more: number;
        };
        /** @description A named value. */
        Argument: {
            /** @description As in the source. */
            name: string;
            /** @description Its type in Solidity. */
            kind: string;
            value: components["schemas"]["Shown"];
        };
        /** @description A value: a number in decimals, an address, bytes in hexadecimals, a text; a list; or the fields of a struct. */
        Shown: Shown;
        /** @description A call or an event by its name. */
        Decoded: {
            /** @description Its name. */
            contract: string;
            /** @description Of the function or the event. */
            name: string;
            /** @description In the order of the source. */
            arguments: components["schemas"]["Argument"][];
        };
        /** @description An event of a contract. */
        ChainEvent: {
            /** @description The contract that told it. */
            address: components["schemas"]["Address"];
            /** @description Null: it is not known. */
            decoded: components["schemas"]["Decoded"] | null;
            topics: components["schemas"]["Hash"][];
            /** @description In hexadecimals, cut where it is long. */
            data: string;
            /** @description That it came of. */
            transaction: components["schemas"]["Hash"] | null;
            /** @description Of that transaction. */
            block: number | null;
        };
        /** @description A transaction with all that came of it. */
        Transaction: components["schemas"]["TransactionLine"] & {
            /** @description When its block was made. */
            at: components["schemas"]["Seconds"] | null;
            /** @description The sender's count of transactions before it. */
            nonce: number;
            /** @description The most gas that it may use. */
            gas_limit: number;
            /** @description Null: it waits. */
            gas_used: number | null;
            /** @description What it cost. */
            fee: components["schemas"]["Wei"] | null;
            /** @description It did what it was to do; null: it waits. */
            succeeded: boolean | null;
            /** @description The contract that it created. */
            created: components["schemas"]["Address"] | null;
            /** @description What was called. */
            decoded: components["schemas"]["Decoded"] | null;
            /** @description What was sent along, in hexadecimals, cut where it is long. */
            input: string;
            /** @description The first of them. */
            events: components["schemas"]["ChainEvent"][];
            /** @description How many there are further. */
            more: number;
        };
        /** @description An account of the chain. */
        Account: {
            address: components["schemas"]["Address"];
            coins: components["schemas"]["Wei"];
            /** @description Each token of the network's profile, MOR first, and those of the transfers. */
            tokens: {
                token: components["schemas"]["Token"];
                amount: components["schemas"]["Amount"];
            }[];
            /** @description Transactions that it sent. */
            sent: number;
            /** @description The length of its code; more than none is a contract. */
            code_bytes: number;
            /** @description Its newest, of the blocks that were looked through. */
            latest: components["schemas"]["TransactionLine"][];
            /** @description How many blocks those are. */
            looked_through: number;
            /** @description The newest from and to it, newest first. */
            transfers: components["schemas"]["TransferLine"][];
            /** @description Older ones of the blocks that were looked through for them. */
            more_transfers: number;
            /** @description How many blocks those are. */
            transfers_through: number;
        };
        /** @description A channel as the chain knows it. */
        ChannelLine: {
            id: components["schemas"]["Hash"];
            config: components["schemas"]["ChannelConfig"];
            /** @description What is paid with on it. */
            token: components["schemas"]["Token"];
            /** @description That it was created in. */
            block: number;
            state: {
                /** @description All deposits, less what was taken back; claims do not lower it. */
                balance: components["schemas"]["Amount"];
                /** @description All that was claimed. */
                total_claimed: components["schemas"]["Amount"];
                withdrawal: components["schemas"]["Withdrawal"] | null;
            };
        };
        /** @description A channel with what happened to it. */
        ChannelHistory: components["schemas"]["ChannelLine"] & {
            /** @description Newest first. */
            events: components["schemas"]["ChainEvent"][];
            /** @description Older ones that are not shown. */
            more: number;
        };
        /** @description Who is registered. */
        Registrations: {
            /** @description Providers and relays. */
            providers: {
                address: components["schemas"]["Address"];
                /** @description `host:port`, where its descriptor is served. */
                endpoint: string;
                /** @description MOR. */
                stake: components["schemas"]["Amount"];
            }[];
            models: {
                id: components["schemas"]["Hash"];
                /** @description Who registered it. */
                owner: components["schemas"]["Address"];
                name: string;
                tags: string[];
            }[];
            /** @description How many of both there are further. */
            more: number;
        };
        /** @description What a text names: one of these. */
        Found: {
            block?: components["schemas"]["Block"];
            transaction?: components["schemas"]["Transaction"];
            account?: components["schemas"]["Account"];
            channel?: components["schemas"]["ChannelHistory"];
        };
        /** @description A key of the gateway, without its secret. */
        Key: {
            name: string;
            /** @description Preferences of its requests, as a request's field `provider`. */
            provider: {
                [key: string]: unknown;
            } | null;
            /** @description Labels that its requests insist on. */
            demand: string | null;
            /** @description How its requests go on when a provider is lost. */
            failover: string | null;
            /** @description How its answers are passed on: `fast` or `paced`. */
            pacing: string | null;
            /** @description Of a day of UTC: amounts with commas between, such as "0.5" (MOR), "5 USDC", "5 USD". */
            budget_per_day: string | null;
            /** @description The same of single models. */
            budgets: {
                [key: string]: string;
            };
            /** @description Of each amount of its budgets: what requests of today came to, and what those that run may come to. */
            today: components["schemas"]["Today"][];
            /** @description Why the key opens nothing; null: it does. */
            problem: string | null;
        };
        /** @description What may go into a channel of a token. */
        Funding: {
            /** @description In which token. */
            token: components["schemas"]["Address"];
            /** @description Into a new channel. */
            deposit: components["schemas"]["Amount"];
            /** @description In one channel at most. */
            channel_max: components["schemas"]["Amount"];
            /** @description A channel gets more when less than this is free. */
            top_up_below: components["schemas"]["Amount"];
        };
        /** @description What was spent today of an amount of a budget. */
        Today: {
            /** @description Null: whatever the model. */
            model: string | null;
            /** @description A token's symbol, or USD. */
            unit: string;
            /** @description Digits after the point; the amounts are in base units. */
            decimals: number;
            budget: components["schemas"]["Amount"];
            spent: components["schemas"]["Amount"];
            held: components["schemas"]["Amount"];
        };
        KeyList: {
            keys: components["schemas"]["Key"][];
        };
        /** @description A piece of an answer, as its provider sent it, or the error that ends it. */
        ChatChunk: {
            choices?: ({
                delta?: {
                    /** @description The next piece of the text. */
                    content?: string | null;
                } & {
                    [key: string]: unknown;
                };
            } & {
                [key: string]: unknown;
            })[];
            error?: components["schemas"]["ChunkError"];
        } & {
            [key: string]: unknown;
        };
        ChunkError: {
            /** @description What is wrong, and what to do. */
            message: string;
            /** @description Which error it is. */
            code?: string | null;
        } & {
            [key: string]: unknown;
        };
        /** @description What the faucet gave, and to whom. */
        Given: {
            address: components["schemas"]["Address"];
            gift: components["schemas"]["Gift"];
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type Shown = string | Shown[] | components["schemas"]["Argument"][];
