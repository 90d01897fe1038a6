import java.lang.reflect.Method;
import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import java.util.function.Supplier;

/**
 * Starts one Elasticsearch node in this process: ElasticsearchNode HOME CONFIG. Elasticsearch's own launcher is in
 * its distribution only, not among its published jars. Everything is reached by reflection, so that it compiles
 * without them.
 */
public class ElasticsearchNode {
    private static final String NAME = "triton-1";

    private static Class<?> type(String name) throws Exception {
        return Class.forName("org.elasticsearch." + name);
    }

    public static void main(String[] arguments) throws Exception {
        Path home = Path.of(arguments[0]);
        Path config = Path.of(arguments[1]);
        Class<?> logging = type("common.logging.LogConfigurator");
        Class<?> environmentType = type("env.Environment");
        Class<?> pluginsType = type("plugins.PluginsLoader");

        logging.getMethod("registerErrorListener").invoke(null);
        logging.getMethod("configureESLogging").invoke(null);
        Object environment = environment(home, config);
        logging.getMethod("setNodeName", String.class).invoke(null, NAME);
        logging.getMethod("setClusterName", String.class).invoke(null, "triton");
        logging.getMethod("configure", environmentType, boolean.class).invoke(null, environment, true);

        Object plugins = plugins(pluginsType, home);
        Object node = type("node.Node").getConstructor(environmentType, pluginsType).newInstance(environment, plugins);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> close(node)));
        node.getClass().getMethod("start").invoke(node);
        Thread.currentThread().join();
    }

    private static Object environment(Path home, Path config) throws Exception {
        Class<?> settings = type("common.settings.Settings");
        Object builder = settings.getMethod("builder").invoke(null);
        Class<?> builderType = builder.getClass();
        builderType.getMethod("put", String.class, String.class).invoke(builder, "path.home", home.toString());
        Object built = builderType.getMethod("build").invoke(builder);
        Supplier<String> name = () -> NAME;
        return type("node.InternalSettingsPreparer")
            .getMethod("prepareEnvironment", settings, Map.class, Path.class, Supplier.class)
            .invoke(null, built, Map.of(), config, name);
    }

    private static Object plugins(Class<?> loader, Path home) throws Exception {
        Method modules = loader.getMethod("loadModulesBundles", Path.class, boolean.class);
        Method plugins = loader.getMethod("loadPluginsBundles", Path.class, boolean.class);
        // false where the jars are on the class path instead of the module path
        boolean named = loader.getModule().isNamed();
        return loader.getMethod("createPluginsLoader", Set.class, Set.class, Map.class, boolean.class).invoke(
            null,
            modules.invoke(null, home.resolve("modules"), false),
            plugins.invoke(null, home.resolve("plugins"), false),
            Map.of(),
            named);
    }

    private static void close(Object node) {
        try {
            node.getClass().getMethod("close").invoke(node);
        } catch (ReflectiveOperationException error) {
            error.printStackTrace();
        }
    }
}
